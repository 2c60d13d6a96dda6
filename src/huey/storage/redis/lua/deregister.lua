-- Forget a worker that holds nothing.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: worker id
-- Returns 1 if it is not known any more, else 0
if call('EXISTS', P .. 'h:' .. ARGV[2]) == 1 then return 0 end
call('ZREM', P .. 'wl', ARGV[2])
call('HDEL', P .. 'w', ARGV[2])
return 1
