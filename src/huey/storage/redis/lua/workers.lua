-- Read all workers.
-- ARGV    1: now or ""  2: lease clock or ""
-- Returns for each: id, details (or nil), end of its lease, 1 if that has passed, how many it holds
-- include: base
local found, known, lease_clock = {}, call('ZRANGE', $WORKER_LEASES, 0, -1, 'WITHSCORES'), tonumber(ARGV[2]) or now
for i = 1, #known, 2 do
  local ends = clamp_time(tonumber(known[i + 1]))
  found[#found + 1] = { known[i], call('HGET', $WORKERS, known[i]), text(ends), ends <= lease_clock and 1 or 0, call('HLEN', $LEASES_OF .. known[i]) }
end
return found
