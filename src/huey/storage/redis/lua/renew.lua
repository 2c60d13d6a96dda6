-- Renewing leases.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- End of a worker's lease, or nil; of one that somebody else wrote no later than what a number can tell.
local function lease_end(worker)
  local score = call('ZSCORE', P .. 'wl', worker)
  return score and as_place(tonumber(score))
end

local function renew(worker, details, mono)
  if call('ZADD', P .. 'wl', text((tonumber(mono) or now) + 15000000), worker) == 1 then call('HSET', P .. 'w', worker, details) end
end
