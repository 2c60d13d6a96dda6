-- Renewing leases.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
local function renew(worker, details, mono)
  if call('ZADD', P .. 'wl', text((tonumber(mono) or now) + 15000000), worker) == 1 then call('HSET', P .. 'w', worker, details) end
end
