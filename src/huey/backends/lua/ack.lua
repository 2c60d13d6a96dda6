-- ack: a holder lets go of a message, and another one may take its place.
-- KEYS  what the holder holds (list), where the other goes (list, or zset for ZADD)
-- ARGV  the message, command for the other (LPUSH, RPUSH, ZADD; "" for none), the other message, its time (ZADD)
-- Returns 1 done, 0 the holder does not hold it: nothing changed
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
    return 0
end
if ARGV[2] == 'ZADD' then
    redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
elseif ARGV[2] ~= '' then
    redis.call(ARGV[2], KEYS[2], ARGV[3])
end
return 1
