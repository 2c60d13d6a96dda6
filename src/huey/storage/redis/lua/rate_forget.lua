-- Begin a window anew.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: name
-- Returns 0
call('HDEL', P .. 'rt', ARGV[2])
call('ZREM', P .. 'rx', ARGV[2])
return 0
