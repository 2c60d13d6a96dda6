-- Give back tasks that never started, at their old places.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: worker id  3..: id, token, ...
-- Returns 0
local held = P .. 'h:' .. ARGV[2]
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if call('HGET', held, id) == ARGV[i + 1] then
    call('HDEL', held, id)
    local message = call('HGET', P .. 'm', id)
    if message then
      local state = load(id) or fresh(message)
      state[STATE] = state[STATE] == 'damaged' and 'damaged' or 'queued'
      state[TOKEN], state[REASON], state[LOST_BY], state[DUE] = tonumber(ARGV[i + 1]), false, false, false
      save(id, state)
      return_to(id)
      line_up(id, head_of(message)[PRIORITY], state[PLACE], state[CRASHES])
    else
      forget(id)
    end
  end
end
take_keys_again()
level_what_was_touched()
return 0
