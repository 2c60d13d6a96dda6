-- Remove a worker unless it still holds leases.
-- ARGV    1: now or ""  2: worker id
-- Returns 1 if it was removed, else 0
-- include: base
if call('EXISTS', $LEASES_OF .. ARGV[2]) == 1 then return 0 end
call('ZREM', $WORKER_LEASES, ARGV[2])
call('HDEL', $WORKERS, ARGV[2])
return 1
