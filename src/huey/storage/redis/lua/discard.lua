-- Remove ended tasks and their results.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that went
local gone = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  if state and state[FINISHED] then
    note_token(state[TOKEN])
    call('ZREM', P .. 'e:' .. state[STATE], id)
    call('HDEL', P .. 'm', id)
    call('HDEL', P .. 'd', id)
    forget_values('result', { id })
    if call('HDEL', P .. 'kp', 'i' .. id) == 1 then call('ZREM', P .. 'kx', 'i' .. id) end
    gone[#gone + 1] = id
  end
end
return gone
