-- Revoke tasks, including those that are not held.
-- ARGV    1: now or ""  2: until  3: "1" for once  4: microseconds that the revocation of an unknown id is kept
--         5: an instant for one enqueue of each id, or ""  6..: ids
-- include: base revocation_fields
local revocation, kept_until = ARGV[2] .. ' ' .. ARGV[3], now + tonumber(ARGV[4])
for i = 6, #ARGV do
  local id = ARGV[i]
  local field = unheld_field(id, ARGV[5])
  if field then
    call('HSET', $REVOKED_UNHELD, field, revocation .. ' ' .. text(kept_until))
    call('ZADD', $REVOKED_UNHELD_EXPIRIES, math.min(kept_until, tonumber(ARGV[2])), field)
  else
    local state = load(id)
    if not state or not state[FINISHED] then call('HSET', $REVOKED, id, revocation) end
  end
end
