-- Failed and cancelled tasks back into the queue, as if new.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were put back
local back = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  if state and (state[STATE] == 'failed' or state[STATE] == 'cancelled') and state[FINISHED] then
    local message = call('HGET', P .. 'm', id)
    local head = head_of(message)
    call('ZREM', P .. 'e:' .. state[STATE], id)
    forget_values('result', { id })
    local new = fresh(message)
    new[TOKEN], new[PLACE], new[ATTEMPTS], new[ANEW] = state[TOKEN], now, state[ATTEMPTS], true
    save(id, new)
    local start = created_of(message)
    living(start - start % 60000000, head[NAME], 1)
    queue(id, head[PRIORITY], now, 0)
    back[#back + 1] = id
  end
end
return back
