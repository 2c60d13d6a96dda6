-- Remove a worker unless it still holds leases.
-- ARGV    1: now or ""  2: worker id
-- include: base
if call('EXISTS', $LEASES_OF .. ARGV[2]) == 0 then
  call('ZREM', $WORKER_LEASES, ARGV[2])
  call('HDEL', $WORKERS, ARGV[2])
end
