-- Leases of workers.

-- End of a worker's lease, or nil.
local function lease_end(worker)
  local score = call('ZSCORE', $WORKER_LEASES, worker)
  return score and clamp_time(tonumber(score))
end

local function renew(worker, details, lease_clock)
  if call('ZADD', $WORKER_LEASES, text((tonumber(lease_clock) or now) + $LEASE_US), worker) == 1 then call('HSET', $WORKERS, worker, details) end
end
