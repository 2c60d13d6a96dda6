-- Read all values of one kind.
-- ARGV    1: now or ""  2: kind
-- Returns keys and values (stamped) in turns; now
-- include: base
return { call('HGETALL', $VALUES .. ARGV[2]), text(now) }
