-- Reset a rate.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: name
-- Returns 0
-- include: base
call('HDEL', $RATES, ARGV[2])
call('ZREM', $RATE_EXPIRIES, ARGV[2])
return 0
