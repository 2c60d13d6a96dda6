-- Where a revocation of an id, or of one enqueue of it, is stored.

-- The field of REVOKED_UNHELD for an id that is not held, for any enqueue or one (OWN). nil: the id is held, so REVOKED has it.
local function unheld_field(id, own)
  local message = call('HGET', $MESSAGES, id)
  local of_row = message and own_of(message)
  if own ~= '' then
    if message and text(of_row or 0) == own then return nil end
    return of_enqueue(id, tonumber(own))
  end
  if not message then return id end
  local state = of_row and load(id)
  return state and state[FINISHED] and id or nil
end
