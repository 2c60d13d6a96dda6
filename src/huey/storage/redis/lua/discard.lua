-- Remove ended tasks and their results.
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were removed
-- include: base edge_traces values
local discarded = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  if state and state[FINISHED] then
    note_token(state[TOKEN])
    call('ZREM', ended_key(state), id)
    call('HDEL', $MESSAGES, id)
    call('HDEL', $STATES, id)
    forget_edges(id)
    remove_values('result', { id })
    if call('HDEL', $RESERVATIONS, 'i' .. id) == 1 then call('ZREM', $RESERVATION_EXPIRIES, 'i' .. id) end
    discarded[#discarded + 1] = id
  end
end
return discarded
