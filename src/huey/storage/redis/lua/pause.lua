-- Pause the queue, or let it go on.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "1" to pause
-- Returns 0
if ARGV[2] == '1' then
  call('HSET', P .. 'c', 'paused', '1')
else
  call('HDEL', P .. 'c', 'paused')
  wake('o', 's')
  wake('u', 's')
end
return 0
