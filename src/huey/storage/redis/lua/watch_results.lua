-- Find which tasks have a result, and let a client wait for the others.
-- ARGV    1: now or ""  2: client, or "" to look only  3..: ids
-- Returns the ids that have one. notify_waiters() (parts/values.lua) puts each of the others on the client's list when its result comes
-- include: base values
local there = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local value = call('HGET', $RESULTS, id)
  if value and not is_past(value) then
    there[#there + 1] = id
  elseif ARGV[2] ~= '' then
    local waiters = call('HGET', $WAITERS, id) or ''
    if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
      call('HSET', $WAITERS, id, waiters == '' and ARGV[2] or waiters .. ' ' .. ARGV[2])
    end
    call('ZADD', $WAITER_EXPIRIES, text(now + 60000000), id)
  end
end
return there
