-- Ending edges: children are queued or cancelled.
local MOST_ENDED = 1000
local opened = {}
local in_queue, end_edge, settle
-- A script has room for 200 local names at a time.
do
  -- Call ACT(...) for the queue of a prefix; its limits are rebalanced before that returns.
  function in_queue(prefix, act, ...)
    if prefix == P then return act(...) end
    local home = { P, has_constraints, touched, is_touched, requeued }
    P, has_constraints, touched, is_touched, requeued = prefix, nil, {}, {}, {}
    local answer = act(...)
    rebalance_touched()
    P, has_constraints, touched, is_touched, requeued = unpack(home, 1, 5)
    return answer
  end

  local function queue_name(prefix)
    return (string.gsub(string.sub(prefix, 7, -3), '%%(%x%x)', function(code) return string.char(tonumber(code, 16)) end))
  end

  local function cancel_child(id, gave)
    local message = call('HGET', $MESSAGES, id)
    local state, name = load(id) or new_state(message), head_of(message)[NAME]
    local is_failure = gave[1] == 'failed' and gave[5]
    call('ZREM', $WAITING, id)
    if is_failure then state[ERROR] = '{"failed": ' .. cjson.encode({ queue_name(gave[4]), gave[5] }) .. '}' end
    count(minute, name, CANCELLED, 1, 0)
    end_task(id, message, name, state, 'cancelled', is_failure and 'parent failed' or 'parent skipped')
    end_edges(id, gave[1], nil, nil, gave[4], gave[5])
  end

  -- Queue a child whose parents have ended.
  local function open_child(id)
    local message = call('HGET', $MESSAGES, id)
    local state, head = load(id) or new_state(message), head_of(message)
    local due = head[AFTER] and created_of(message) + head[AFTER] or head[ETA]
    call('ZREM', $WAITING, id)
    state[STATE], state[READY_AT] = 'queued', now
    -- A relative expiry counts from here.
    if head[EXPIRES_IN] then state[EXPIRY] = text(math.max(now, due or 0) + head[EXPIRES_IN]) end
    if due and due > now then
      state[DUE] = text(due)
      save(id, state)
      schedule({ id }, text(due))
    else
      save(id, state)
      enter_queue(id, head[PRIORITY], now, 0)
    end
    opened[#opened + 1] = { queue_name(P), id, message, state[ATTEMPT], due and due > now and 1 or 0 }
  end

  -- After a retry by hand: what a parent gave that did not succeed, though the child needs it; or nil.
  local function broken_by(id)
    local parents = unpacked(call('HGET', $EDGES_TO, id)) or {}
    if #parents < 2 then return nil end
    for _, parent in ipairs(parents) do
      local gave = parent[HOW] == 'then' and unpacked(call('HGET', $EDGES_GIVEN, given_field(id, parent[AT])))
      if gave and gave[1] ~= 'succeeded' then return gave end
    end
  end

  -- One edge ends, in the queue of its child.
  function end_edge(edge, gave)
    local id = edge[CHILD]
    if call('HEXISTS', $EDGES_TO, id) == 0 then return end
    local kept = { gave[1], gave[2], edge[KIND] == 'join' and gave[3], gave[4], gave[5] }
    call('HSET', $EDGES_GIVEN, given_field(id, edge[POSITION]), cmsgpack.pack(kept))
    if not call('ZSCORE', $WAITING, id) then return end
    local open = tonumber(call('ZINCRBY', $WAITING, -1, id))
    if edge[KIND] == 'then' and gave[1] ~= 'succeeded' then return cancel_child(id, gave) end
    if open > 0 then return end
    local broken = edge[KIND] == 'then' and broken_by(id)
    if broken then cancel_child(id, broken) else open_child(id) end
  end

  -- End up to ROOM edges of a parent; return how many. What is left is kept for a later call.
  local function end_some(id, gave, room)
    local edges = unpacked(call('HGET', $EDGES_FROM, id)) or {}
    local is_kept = gave[1] ~= 'succeeded' and call('HEXISTS', $MESSAGES, id) == 1
    local last, rest = math.min(room, #edges), {}
    local past = is_kept and unpacked(call('HGET', $EDGES_ENDED, id)) or {}
    for i, edge in ipairs(edges) do
      if i > last then rest[#rest + 1] = edge else past[#past + 1] = edge end
    end
    if #rest > 0 then
      call('HSET', $EDGES_FROM, id, cmsgpack.pack(rest))
      call('HSET', $ENDED_PARENTS, id, cmsgpack.pack(gave))
    else
      call('HDEL', $EDGES_FROM, id)
      call('HDEL', $ENDED_PARENTS, id)
    end
    if is_kept then call('HSET', $EDGES_ENDED, id, cmsgpack.pack(past)) end
    for i = 1, last do in_queue(edges[i][CHILD_QUEUE], end_edge, edges[i], gave) end
    return last
  end

  local function keep_for_later(id, gave)
    call('HSET', $ENDED_PARENTS, id, cmsgpack.pack(gave))
  end

  -- End the edges of what this script has ended, and of what earlier ones have left: in all up to MOST_ENDED.
  function settle()
    local room, at = MOST_ENDED, 0
    local left = call('HSCAN', $ENDED_PARENTS, '0', 'COUNT', 100)[2]
    for i = 1, #left, 2 do
      local gave, state = unpacked(left[i + 1]), load(left[i])
      local is_live = call('HEXISTS', $MESSAGES, left[i]) == 1 and not (state and state[FINISHED])
      -- It was requeued by hand, or enqueued again, meanwhile.
      if not gave or is_live then call('HDEL', $ENDED_PARENTS, left[i]) else ended_parents[#ended_parents + 1] = { P, left[i], gave } end
    end
    while at < #ended_parents do
      at = at + 1
      local parent = ended_parents[at]
      if room > 0 then
        room = room - in_queue(parent[1], end_some, parent[2], parent[3], room)
      else
        in_queue(parent[1], keep_for_later, parent[2], parent[3])
      end
    end
    ended_parents = {}
  end
end
