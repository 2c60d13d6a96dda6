-- A client stops waiting for results.
-- ARGV    1: now or ""  2: client  3..: ids
-- include: base
for i = 3, #ARGV do
  local left = {}
  for waiter in string.gmatch(call('HGET', $WAITERS, ARGV[i]) or '', '%S+') do
    if waiter ~= ARGV[2] then left[#left + 1] = waiter end
  end
  if #left > 0 then
    call('HSET', $WAITERS, ARGV[i], table.concat(left, ' '))
  else
    call('HDEL', $WAITERS, ARGV[i])
    call('ZREM', $WAITER_EXPIRIES, ARGV[i])
  end
end
