-- Failed and cancelled tasks back into the queue, as if new.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were put back
local again = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  local message = call('HGET', P .. 'm', id)
  if message and state and (state[STATE] == 'failed' or state[STATE] == 'cancelled') and state[FINISHED] then
    local head = head_of(message)
    call('ZREM', P .. 'e:' .. state[STATE], id)
    forget_values('result', { id })
    local new = fresh(message)
    new[TOKEN], new[PLACE], new[ATTEMPTS], new[EXPIRY] = state[TOKEN], now, state[ATTEMPTS], true
    save(id, new)
    local start = created_of(message)
    living(start - start % 60000000, head[NAME], 1)
    local requested = requested_in(head[OPTIONS])
    local constraints = requested and note_constraints(id, requested)
    if constraints then take_key(id, constraints) end
    line_up(id, head[PRIORITY], now, 0)
    again[#again + 1] = id
  end
end
level_what_was_touched()
return again
