-- Renew the leases of workers.
-- ARGV    1: now or ""  2: lease clock or ""  3..: worker id, worker details, ...
-- include: base worker_leases
for i = 3, #ARGV, 2 do
  renew(ARGV[i], ARGV[i + 1], ARGV[2])
  -- Written each time, in case it was lost.
  call('HSET', $WORKERS, ARGV[i], ARGV[i + 1])
end
