-- Renew the leases of workers and make them known.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3..: worker id, worker details, ...
-- Returns 0
for i = 3, #ARGV, 2 do
  renew(ARGV[i], ARGV[i + 1], ARGV[2])
  -- Again each time, should it have been lost.
  call('HSET', P .. 'w', ARGV[i], ARGV[i + 1])
end
return 0
