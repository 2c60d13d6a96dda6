-- Requeue failed and cancelled tasks as if they were new.
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were requeued
-- include: base lanes stats values constraints missing edge_traces insert finishes edges
local retried, retried_ids, own = {}, {}, P

local function was_cancelled_by_parent(state)
  return state and state[FINISHED] and (state[REASON] == 'parent failed' or state[REASON] == 'parent skipped')
end

-- Let a child wait again, if it was cancelled because of its parents or is retried together with one; return whether it waits, and whether it did not before.
local function wait_again(edge)
  local id = edge[CHILD]
  if call('ZSCORE', $WAITING, id) or (P == own and retried_ids[id]) then return true, false end
  local state, message = load(id), call('HGET', $MESSAGES, id)
  if edge[KIND] ~= 'then' or not message or not was_cancelled_by_parent(state) then return false, false end
  call('ZREM', $ENDED .. state[STATE], id)
  state[STATE], state[REASON], state[ERROR], state[FINISHED], state[REVOKED], state[EXPIRY] = 'queued', false, false, false, false, true
  call('HDEL', $REVOKED, id)
  save(id, state)
  local start, head = created_of(message), head_of(message)
  count_pending(start - start % 60000000, head[NAME], 1)
  local requested = requested_in(head[OPTIONS])
  local constraints = requested and note_constraints(id, requested)
  if constraints then take_key(id, constraints) end
  call('ZADD', $WAITING, open_parents(id), id)
  return true, true
end

-- Counted one by one: counting all parents of a child for each of them takes seconds if there are a thousand.
local function open_again(edge)
  local id = edge[CHILD]
  if not call('ZSCORE', $WAITING, id) then call('ZADD', $WAITING, open_parents(id), id) end
  call('ZINCRBY', $WAITING, call('HDEL', $EDGES_GIVEN, given_field(id, edge[POSITION])), id)
end

-- The tasks were requeued: tasks cancelled because of them wait again, and so does a join that was not queued yet.
local function reopen_edges(ids)
  local walk, at = {}, 0
  for _, id in ipairs(ids) do walk[#walk + 1] = { P, id } end
  while at < #walk do
    at = at + 1
    local prefix, parent = walk[at][1], walk[at][2]
    in_queue(prefix, function()
      local open, past = unpacked(call('HGET', $EDGES_FROM, parent)) or {}, {}
      for _, edge in ipairs(unpacked(call('HGET', $EDGES_ENDED, parent)) or {}) do
        local waits, is_new = false, false
        in_queue(edge[CHILD_QUEUE], function()
          waits, is_new = wait_again(edge)
          if waits then open_again(edge) end
        end)
        if waits then open[#open + 1] = edge else past[#past + 1] = edge end
        if is_new then walk[#walk + 1] = { edge[CHILD_QUEUE], edge[CHILD] } end
      end
      call('HDEL', $ENDED_PARENTS, parent)
      if #open > 0 then call('HSET', $EDGES_FROM, parent, cmsgpack.pack(open)) end
      if #past > 0 then call('HSET', $EDGES_ENDED, parent, cmsgpack.pack(past)) else call('HDEL', $EDGES_ENDED, parent) end
    end)
  end
end

for i = 2, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  local message = call('HGET', $MESSAGES, id)
  if message and state and (state[STATE] == 'failed' or state[STATE] == 'cancelled') and state[FINISHED]
    and not was_cancelled_by_parent(state) then
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
    retried[#retried + 1], retried_ids[id] = id, head[PRIORITY]
  end
end
if #retried > 0 and call('EXISTS', $EDGES_ENDED) == 1 then reopen_edges(retried) end
for _, id in ipairs(retried) do
  if not call('ZSCORE', $WAITING, id) then enter_queue(id, retried_ids[id], now, 0) end
end
rebalance_touched()
return retried
