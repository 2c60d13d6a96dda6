-- Which enqueue of an id a revocation is about.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- The field of ru where the mark of an id is kept while it is not held: of any of its enqueues, or of that one (OWN). nil: its row has it.
local function field_to_keep(id, own)
  local message = call('HGET', P .. 'm', id)
  local of_row = message and own_of(message)
  if own ~= '' then
    if message and text(of_row or 0) == own then return nil end
    return of_enqueue(id, tonumber(own))
  end
  if not message then return id end
  local state = of_row and load(id)
  return state and state[FINISHED] and id or nil
end
