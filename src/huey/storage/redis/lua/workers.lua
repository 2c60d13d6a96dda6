-- All workers known.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""
-- Returns for each: id, details (or nil), end of its lease, 1 if that has passed, how many it holds
local found, known, mono = {}, call('ZRANGE', P .. 'wl', 0, -1, 'WITHSCORES'), tonumber(ARGV[2]) or now
for i = 1, #known, 2 do
  local ends = as_place(tonumber(known[i + 1]))
  found[#found + 1] = { known[i], call('HGET', P .. 'w', known[i]), text(ends), ends <= mono and 1 or 0, call('HLEN', P .. 'h:' .. known[i]) }
end
return found
