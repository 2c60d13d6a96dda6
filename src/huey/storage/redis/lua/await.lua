-- Whether a result of one of the tasks is there; else note that somebody waits for it.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: waiter, or "" for a look only  3..: ids
-- Returns 1 or 0. With a waiter, its list is left so that a BLPOP sent with this returns at once, or waits
local list = P .. 'wk:' .. ARGV[2]
for i = 3, #ARGV do
  local value = call('HGET', P .. 'v:result', ARGV[i])
  if value and not is_past(value) then
    if ARGV[2] ~= '' then
      call('RPUSH', list, '1')
      call('PEXPIRE', list, 60000)
    end
    return 1
  end
end
if ARGV[2] ~= '' then
  call('DEL', list)
  for i = 3, #ARGV do
    local waiters = call('HGET', P .. 'wt', ARGV[i]) or ''
    if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
      call('HSET', P .. 'wt', ARGV[i], waiters == '' and ARGV[2] or waiters .. ' ' .. ARGV[2])
    end
    call('ZADD', P .. 'wx', text(now + 60000000), ARGV[i])
  end
end
return 0
