-- One turn of a worker: renew its lease, write finishes, make due tasks ready, claim.
-- ARGV    1: now or ""  2: lease clock or ""  3: worker id  4: worker details  5: who it is, as part of a JSON object
--         6: lanes it claims from: o (other tasks), u (suspects) or uo  7: want  8: microseconds that results are kept, or ""
--         9: "1" if the server is full: finishes are written all the same, nothing is claimed; "p" if promoted tasks are to be reported
--         even without a follower  10: channel  11: number of events
--         12: number of plain successes, those with a value first  13: of their values  14: of other finishes  15: of task names
--         16: "1" if all tokens of successes are 1  17: number of the client that may call this turn off, or ""
--         18: number of outputs for children  19: of workflows that follow a finish
--         then events; outputs, each behind its id; ids of successes; their tokens unless all are 1; values;
--         for each other finish FINISH_SIZE fields: id, token, state, due, attempt, solo crashes, deaths, unknown until, "+" and reason,
--         error, "+" and value, microseconds it took, how it ended as part of a JSON object, microseconds from its next due time to its
--         expiry or "", new options or "";
--         for each task name what its successes add up to: name, row of numbers, number of minutes, and for each of those the minute and
--         how many of the tasks were enqueued in it;
--         for each workflow the id of its finish, the number of arguments behind the plan, the plan (parts/workflows.lua), and those
-- Returns 2 if it was called off. 1 and the ids of stale finishes: then nothing was written, and the turn is to be sent again without
--         them. Or 0, ids and messages that were claimed, 1 if there are more than fit into one turn; and, if there is anything else to
--         say: their states, tasks cancelled at the claim (id, message, attempt, reason), promoted ones (id, message, attempt), ids of
--         revoked running tasks, next due time or "", whether paused, whether followed, whether there may be more, tasks that waited for what
--         has ended (queue, id, message, attempt, whether it is scheduled)
-- include: base stats values worker_leases
local lease_clock, worker, details, who, lanes, want, result_ttl = unpack(ARGV, 2, 8)
local mode, channel = ARGV[9], ARGV[10]
local events, successes, values, others, names = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local all_first, caller = ARGV[16] == '1', ARGV[17]
local number_of_outputs, workflows_left = tonumber(ARGV[18]), tonumber(ARGV[19])
local FIRST_EVENT = 20
local first_output = FIRST_EVENT + events
local first_success = first_output + 2 * number_of_outputs
local first_value = first_success + (all_first and 1 or 2) * successes
local first_other = first_value + values
local first_name = first_other + $FINISH_SIZE * others
local last_success = first_success + successes - 1
local held = $LEASES_OF .. worker
want = tonumber(want)

if caller ~= '' and call('DEL', $CALLED_OFF .. caller) == 1 then return { 2 } end

-- Of the finishes from ARGV[FROM] on, add those to STALE whose token is not the one of the lease. Ids are STEP apart, tokens AWAY from
-- their ids; without AWAY all tokens are 1.
local function find_stale(stale, from, number, step, away)
  local at = from
  for part = 1, number, 1000 do
    local size = math.min(1000, number - part + 1)
    local tokens
    if step == 1 then
      tokens = call('HMGET', held, unpack(ARGV, at, at + size - 1))
    else
      local ids = {}
      for i = 1, size do ids[i] = ARGV[at + (i - 1) * step] end
      tokens = call('HMGET', held, unpack(ids))
    end
    for i = 1, size do
      if tokens[i] ~= (away and ARGV[at + away] or '1') then stale[#stale + 1] = ARGV[at] end
      at = at + step
    end
  end
end

if successes + others > 0 then
  local stale = {}
  find_stale(stale, first_success, successes, 1, not all_first and successes)
  find_stale(stale, first_other, others, $FINISH_SIZE, 1)
  if #stale > 0 then return { 1, stale } end
end

if mode == '1' then
  -- A full server rejects the first write of a script, unless that frees memory: after it, the script may continue. The finishes of what
  -- ran need room, and free some.
  call('DEL', $ABSENT)
  want = 0
end

renew(worker, details, lease_clock)

local result_expiry = expiry_after(result_ttl)
local result_stamp = stamp_of(result_expiry)

-- Call a command with the ids of all successes, 4000 at a time.
local function for_successes(verb, key)
  for from = first_success, last_success, 4000 do call(verb, key, unpack(ARGV, from, math.min(from + 3999, last_success))) end
end

local function write_results()
  local ids, fields = {}, {}
  for i = 1, values do
    local id = ARGV[first_success + i - 1]
    ids[i], fields[2 * i - 1], fields[2 * i] = id, id, result_stamp .. ARGV[first_value + i - 1]
  end
  store_values('result', ids, fields, result_expiry)
  notify_waiters(ids)
end

-- Successful tasks are removed; their results remain.
local function write_successes()
  if not all_first then
    local highest = 1
    for i = last_success + 1, last_success + successes do highest = math.max(highest, tonumber(ARGV[i])) end
    note_token(highest)
  end
  for_successes('HDEL', held)
  for_successes('HDEL', $MESSAGES)
  if call('EXISTS', $STATES) == 1 then for_successes('HDEL', $STATES) end
  if call('EXISTS', $REVOKED) == 1 then for_successes('HDEL', $REVOKED) end
  if values > 0 then write_results() end
end

local function count_successes()
  local at = first_name
  for _ = 1, names do
    local name, row, minutes = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    for _ = 1, minutes do
      local start, number = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
      count_pending(start, name, -number)
      if start == minute then
        row = struct.pack('<d', number) .. string.sub(row, 9)
      else
        count(start, name, ENQUEUED, number, 0)
      end
      at = at + 2
    end
    add_row($MINUTES, minute, name, row)
  end
  return at
end

if successes > 0 then write_successes() end
local first_workflow = count_successes()

-- Remove ids without a message from a list and return them.
local function drop_unheld(ids)
  local unheld, n, last = {}, 0, #ids
  for i = 1, last do
    local id = ids[i]
    if call('HEXISTS', $MESSAGES, id) == 1 then
      n = n + 1
      ids[n] = id
    else
      unheld[#unheld + 1] = id
    end
  end
  for i = n + 1, last do ids[i] = nil end
  return unheld
end

-- Messages of ids, in order, until they exceed TURN_BYTES: those of the last ids may be missing then. And the ids that had none, dropped.
local function messages_of(ids, unheld)
  local messages, size, from, step = {}, 0, 1, 32
  while from <= #ids do
    local part = call('HMGET', $MESSAGES, unpack(ids, from, math.min(from + step - 1, #ids)))
    for i = 1, #part do
      local message = part[i]
      if not message then return messages_of(ids, drop_unheld(ids)) end
      messages[from + i - 1] = message
      size = size + #message
      if size > $TURN_BYTES then return messages, unheld or {} end
    end
    from = from + step
    -- As many as weigh a megabyte if they are like those before.
    step = math.max(32, math.min(1000, math.floor(1048576 * #messages / size)))
  end
  return messages, unheld or {}
end

local taken = {}

-- Claim from the list of priority 0; return the answer of the turn. Or return nil if one of the TAKEN may expire or had an eta.
local function claim_plain()
  if want > 0 and lanes ~= 'u' then taken = call('LPOP', $READY, want) or {} end
  if #taken == 0 then return { 0, taken, {} } end
  local size = #taken
  local messages, leases = messages_of(taken), {}
  for i, message in ipairs(messages) do
    if string.byte(message, 1) ~= $PLAIN then return nil end
    leases[2 * i - 1], leases[2 * i] = taken[i], '1'
  end
  local is_cut = #messages < #taken
  for i = #taken, #messages + 1, -1 do
    call('LPUSH', $READY, taken[i])
    taken[i] = nil
  end
  if #taken > 0 then call('HSET', held, unpack(leases)) end
  if is_cut or (size == want and call('EXISTS', $READY) == 1) then wake('o', 'r') end
  return { 0, taken, messages, is_cut and 1 or nil }
end

-- Whether nothing is paused, scheduled, requeued, revoked, ranked, suspect, of another priority, constrained or part of a workflow. Most turns are like that, and
-- without a follower: they end here, before the functions that only the others need are defined.
local is_plain = call('EXISTS', $CONTROL, $SCHEDULED, $STATES, $REVOKED, $REVOKED_NAMES, $READY_RANKED, $SUSPECTS, $PRIORITIES, $CONSTRAINTS,
  $AWAITED, $EDGES_FROM, $EDGES_TO, $ENDED_PARENTS) == 0
local followed = call('PUBSUB', 'NUMSUB', channel)[2] > 0
if others == 0 and is_plain and not followed and workflows_left == 0 then
  local answer = claim_plain()
  if answer then return answer end
end

-- include: lanes events insert constraints missing edge_traces finishes edges
if is_plain then has_constraints = false else followed = followed or has_follower() end

-- Successes give up what their constraints held.
local function release_constraints()
  for from = first_success, last_success, 1000 do
    for i, packed in ipairs(call('HMGET', $CONSTRAINTS, unpack(ARGV, from, math.min(from + 999, last_success)))) do
      if packed then after_end(ARGV[from + i - 1], parse_constraints(packed)) end
    end
  end
end

local function write_others()
  local with_result = {}
  for at = first_other, first_name - 1, $FINISH_SIZE do
    local id, value = ARGV[at], ARGV[at + 10]
    call('HDEL', held, id)
    if value ~= '' then
      local expires = result_expiry
      if ARGV[at + 2] == 'succeeded' and ARGV[at + 3] ~= '' then expires = later_expiry(expires, tonumber(due_in(ARGV[at + 3]))) end
      store_values('result', { id }, { id, stamp_of(expires) .. string.sub(value, 2) }, expires)
      with_result[#with_result + 1] = id
    end
    write_finish(who, at)
  end
  retake_keys()
  if #with_result > 0 then notify_waiters(with_result) end
end

-- Successes end the edges to their children, and what their own parents gave them goes.
local function end_edges_of_successes()
  for from = first_success, last_success, 1000 do
    local to = math.min(from + 999, last_success)
    local edges, parents = call('HMGET', $EDGES_FROM, unpack(ARGV, from, to)), call('HMGET', $EDGES_TO, unpack(ARGV, from, to))
    for i = 1, to - from + 1 do
      local at = from + i - 1
      local id, number = ARGV[at], at - first_success
      local value = outputs[id] or (number < values and ARGV[first_value + number])
      if edges[i] then end_edges(id, 'succeeded', value, nil, nil, nil, unpacked(edges[i])) end
      if parents[i] then forget_edges(id) end
    end
  end
end

local is_workflow = has_edges()
for at = first_output, first_success - 1, 2 do outputs[ARGV[at]] = ARGV[at + 1] end
if may_have_constraints() then release_constraints() end
if is_workflow then end_edges_of_successes() end
write_others()
if is_workflow then settle() end
if workflows_left > 0 then
-- include: insert_constrained workflows
  local at = first_workflow
  for _ = 1, workflows_left do
    put_workflow(plan_at(at + 2, at + 3), at + 3)
    at = at + 3 + tonumber(ARGV[at + 1])
  end
  if #ended_parents > 0 then settle() end
end
-- include: claim
publish_events(channel, FIRST_EVENT, first_output - 1)
local is_paused = call('HGET', $CONTROL, 'paused') == '1'
local promoted = promote($PROMOTE, followed or mode == 'p')
rebalance_touched()
end_windows()

local ids, messages, states, cancelled = {}, {}, {}, {}

-- Cancel those of the TAKEN that are revoked or expired, lease the others.
local function lease_taken()
  local taken_messages, unheld = messages_of(taken)
  for _, id in ipairs(unheld) do drop_traces(id) end
  local is_cut = #taken_messages < #taken
  if is_cut then return_taken(taken, #taken_messages + 1) end
  local packed_states = #taken > 0 and call('EXISTS', $STATES) == 1 and call('HMGET', $STATES, unpack(taken)) or {}
  local packed_constraints = #taken > 0 and may_have_constraints() and call('HMGET', $CONSTRAINTS, unpack(taken)) or {}
  local has_revocations, has_names = call('EXISTS', $REVOKED) == 1, call('EXISTS', $REVOKED_NAMES) == 1
  local leases = {}
  for i, id in ipairs(taken) do
    local message, state, constraints = taken_messages[i], parse_state(packed_states[i]), parse_constraints(packed_constraints[i])
    if constraints then after_claim(id, constraints, message, state) end
    local reason = skip_reason(id, message, state, has_revocations, has_names)
    if reason then
      state = state or new_state(message)
      state[TOKEN] = state[TOKEN] + 1
      local name = head_of(message)[NAME]
      count(minute, name, CANCELLED, 1, 0)
      end_task(id, message, name, state, 'cancelled', reason)
      if is_workflow then skip_edges(id) end
      cancelled[#cancelled + 1] = { id, message, state[ATTEMPT], reason }
    else
      local n = #ids + 1
      ids[n], messages[n], states[n] = id, message, state or false
      leases[2 * n - 1], leases[2 * n] = id, text(state and state[TOKEN] + 1 or 1)
      if constraints then spend(id, constraints) end
    end
  end
  if #leases > 0 then in_parts('HSET', held, leases, 4000) end
  rebalance_touched()
  return is_cut
end

if #taken == 0 and want > 0 and not is_paused then taken = take(lanes, want) end
local may_have_more = want > 0 and #taken == want
if #taken > 0 and lease_taken() then may_have_more = true end
if is_workflow then
  if #ended_parents > 0 then
    settle()
    rebalance_touched()
  end
  may_have_more = may_have_more or (#cancelled > 0 and #opened > 0) or call('EXISTS', $ENDED_PARENTS) == 1
end
if may_have_more then
  if lanes ~= 'u' and call('EXISTS', $READY, $READY_RANKED, $PRIORITIES) > 0 then wake('o', 'r') end
  if lanes ~= 'o' and call('EXISTS', $SUSPECTS) == 1 then wake('u', 'r') end
end
local revoked = call('EXISTS', $REVOKED) == 1 and revoked_leases(worker) or {}
local next_due = earliest($SCHEDULED, $AWAITED) or ''
return {
  0, ids, messages, states, cancelled, promoted, revoked, next_due,
  is_paused and 1 or 0, followed and 1 or 0, may_have_more and 1 or 0, opened,
}
