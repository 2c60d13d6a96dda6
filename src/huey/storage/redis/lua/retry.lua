-- Put failed and cancelled tasks back into the queue as if they were new.
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were put back
-- include: base lanes stats values constraints
local retried = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  local message = call('HGET', $MESSAGES, id)
  if message and state and (state[STATE] == 'failed' or state[STATE] == 'cancelled') and state[FINISHED] then
    local head = head_of(message)
    call('ZREM', $ENDED .. state[STATE], id)
    remove_values('result', { id })
    local new = new_state(message)
    new[TOKEN], new[READY_AT], new[ATTEMPTS], new[EXPIRY] = state[TOKEN], now, state[ATTEMPTS], true
    save(id, new)
    local start = created_of(message)
    count_pending(start - start % 60000000, head[NAME], 1)
    local requested = requested_in(head[OPTIONS])
    local constraints = requested and note_constraints(id, requested)
    if constraints then take_key(id, constraints) end
    enter_queue(id, head[PRIORITY], now, 0)
    retried[#retried + 1] = id
  end
end
rebalance_touched()
return retried
