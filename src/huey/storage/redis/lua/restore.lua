-- Take back the revocations of tasks that have not ended.
-- ARGV    1: now or ""  2: an instant for one enqueue of each id, or ""  3..: ids
-- Returns the ids that were revoked
-- include: base revocation_fields
local restored = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local field = unheld_field(id, ARGV[2])
  if not field then
    if call('HDEL', $REVOKED, id) == 1 then restored[#restored + 1] = id end
  elseif kept_revocation(call('HGET', $REVOKED_UNHELD, field)) then
    call('HDEL', $REVOKED_UNHELD, field)
    call('ZREM', $REVOKED_UNHELD_EXPIRIES, field)
    restored[#restored + 1] = id
  end
end
return restored
