-- Mark tasks as revoked, also those that are not held.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: until  3: "1" for once  4: microseconds that the mark of an unknown id is kept
--         5: the enqueue that is meant, or "" for any  6..: ids
-- Returns 0
local mark, kept = ARGV[2] .. ' ' .. ARGV[3], now + tonumber(ARGV[4])
for i = 6, #ARGV do
  local id = ARGV[i]
  local field = field_to_keep(id, ARGV[5])
  if field then
    call('HSET', P .. 'ru', field, mark .. ' ' .. text(kept))
    call('ZADD', P .. 'ux', math.min(kept, tonumber(ARGV[2])), field)
  else
    local state = load(id)
    if not state or not state[FINISHED] then call('HSET', P .. 'rv', id, mark) end
  end
end
return 0
