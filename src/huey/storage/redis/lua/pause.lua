-- Pause the queue, or resume it.
-- ARGV    1: now or ""  2: "1" to pause
-- include: base
if ARGV[2] == '1' then
  call('HSET', $CONTROL, 'paused', '1')
else
  call('HDEL', $CONTROL, 'paused')
  wake('o', 's')
  wake('u', 's')
end
