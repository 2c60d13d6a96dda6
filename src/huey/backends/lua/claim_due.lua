-- claim_due: hand the messages of a schedule that are due to a holder, the soonest first.
-- KEYS  the schedule (zset), what the holder holds (list)
-- ARGV  time now, how many at most
-- Returns the messages
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, message in ipairs(due) do
    redis.call('ZREM', KEYS[1], message)
    redis.call('LPUSH', KEYS[2], message)
end
return due
