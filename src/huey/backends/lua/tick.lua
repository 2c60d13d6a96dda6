-- tick: note a tick of a periodic task and write its message, if it is newer than the last one.
-- KEYS  last ticks (hash), queue (list)
-- ARGV  task, time of the tick, message or "" for none
-- Returns 1 noted, 0 it was not newer
local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then
    redis.call('LPUSH', KEYS[2], ARGV[3])
end
return 1
