-- Read the revocation of a task, or of a task name.
-- ARGV    1: now or ""  2: "+" and id, or ""  3: "+" and name, or ""  4: an instant for one enqueue of the id, or ""
-- Returns it, "until once", or nil
-- include: base revocation_fields
if ARGV[2] ~= '' then
  local id = string.sub(ARGV[2], 2)
  local is_any = ARGV[4] == ''
  local field, revocation = is_any and id or unheld_field(id, ARGV[4])
  if is_any or not field then
    revocation = call('HGET', $REVOKED, id)
    if revocation then return revocation end
    local state = load(id)
    if state and state[REVOKED] then return state[REVOKED] end
  end
  revocation = kept_revocation(call('HGET', $REVOKED_UNHELD, is_any and id or of_enqueue(id, tonumber(ARGV[4]))))
  if revocation then return revocation end
end
return ARGV[3] ~= '' and call('HGET', $REVOKED_NAMES, string.sub(ARGV[3], 2))
