-- All small values of one kind.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: kind
-- Returns keys and values (behind their 16 digits) in turns; now
return { call('HGETALL', P .. 'v:' .. ARGV[2]), text(now) }
