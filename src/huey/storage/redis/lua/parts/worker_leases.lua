-- Leases of workers.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- End of a worker's lease, or nil.
local function lease_end(worker)
  local score = call('ZSCORE', $WORKER_LEASES, worker)
  return score and clamp_time(tonumber(score))
end

local function renew(worker, details, lease_clock)
  if call('ZADD', $WORKER_LEASES, text((tonumber(lease_clock) or now) + $LEASE_US), worker) == 1 then call('HSET', $WORKERS, worker, details) end
end
