-- All small values of one kind.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: kind
-- Returns keys and values in turns; and the keys past their time
return { call('HGETALL', P .. 'v:' .. ARGV[2]), call('ZRANGEBYSCORE', P .. 'x:' .. ARGV[2], '-inf', text(now)) }
