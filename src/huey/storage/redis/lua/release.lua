-- Return tasks that never started to the queue, with their old ready_at.
-- ARGV    1: now or ""  2: worker id  3..: id, token, ...
-- include: base lanes constraints
local held = $LEASES_OF .. ARGV[2]
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if call('HGET', held, id) == ARGV[i + 1] then
    call('HDEL', held, id)
    local message = call('HGET', $MESSAGES, id)
    if message then
      local state = load(id) or new_state(message)
      state[STATE] = state[STATE] == 'damaged' and 'damaged' or 'queued'
      state[TOKEN], state[REASON], state[CRASHED_WORKER], state[DUE] = tonumber(ARGV[i + 1]), false, false, false
      save(id, state)
      refund(id)
      after_requeue(id)
      enter_queue(id, head_of(message)[PRIORITY], state[READY_AT], state[SOLO_CRASHES])
    else
      drop_traces(id)
    end
  end
end
retake_keys()
rebalance_touched()
