-- This waiter does not wait for these results any more.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: waiter  3..: ids
-- Returns 0
for i = 3, #ARGV do
  local left = {}
  for waiter in string.gmatch(call('HGET', P .. 'wt', ARGV[i]) or '', '%S+') do
    if waiter ~= ARGV[2] then left[#left + 1] = waiter end
  end
  if #left > 0 then
    call('HSET', P .. 'wt', ARGV[i], table.concat(left, ' '))
  else
    call('HDEL', P .. 'wt', ARGV[i])
    call('ZREM', P .. 'wx', ARGV[i])
  end
end
return 0
