-- Which of the tasks have a result; else note that somebody waits for it.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: waiter, or "" for a look only  3..: ids
-- Returns the ids that have one. Of the others announce() (values.lua) tells the waiter's list, each by its id
local there = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local value = call('HGET', P .. 'v:result', id)
  if value and not is_past(value) then
    there[#there + 1] = id
  elseif ARGV[2] ~= '' then
    local waiters = call('HGET', P .. 'wt', id) or ''
    if not string.find(' ' .. waiters .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
      call('HSET', P .. 'wt', id, waiters == '' and ARGV[2] or waiters .. ' ' .. ARGV[2])
    end
    call('ZADD', P .. 'wx', text(now + 60000000), id)
  end
end
return there
