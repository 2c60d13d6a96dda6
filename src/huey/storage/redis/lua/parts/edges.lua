-- Ending edges: children are queued or cancelled.
local MOST_ENDED = 1000
local opened = {}
local in_queue, end_all_edges, settle
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

  -- Edges of one child end. ENDS: edge and what its parent gave, in turns.
  local function end_edges_of(id, ends)
    if call('HEXISTS', $EDGES_TO, id) == 0 then return end
    local given, failure, has_then = {}, nil, false
    for i = 1, #ends, 2 do
      local edge, gave = ends[i], ends[i + 1]
      local is_join = edge[KIND] == 'join'
      given[i], given[i + 1] = given_field(id, edge[POSITION]), cmsgpack.pack({ gave[1], gave[2], is_join and gave[3], gave[4], gave[5] })
      has_then = has_then or not is_join
      if not is_join and gave[1] ~= 'succeeded' then failure = failure or gave end
    end
    in_parts('HSET', $EDGES_GIVEN, given, 4000)
    if not call('ZSCORE', $WAITING, id) then return end
    local open = tonumber(call('ZINCRBY', $WAITING, -#ends / 2, id))
    if failure then return cancel_child(id, failure) end
    if open > 0 then return end
    local broken = has_then and broken_by(id)
    if broken then cancel_child(id, broken) else open_child(id) end
  end

  -- The same for any edges: each child is looked at once, at the place of its last edge.
  function end_all_edges(ends)
    local groups, last = {}, {}
    for i = 1, #ends, 2 do
      local key = ends[i][CHILD_QUEUE] .. ends[i][CHILD]
      local group = groups[key] or {}
      group[#group + 1], group[#group + 2] = ends[i], ends[i + 1]
      groups[key], last[i], last[key] = group, key, i
    end
    for i = 1, #ends, 2 do
      local edge, key = ends[i], last[i]
      if last[key] == i then in_queue(edge[CHILD_QUEUE], end_edges_of, edge[CHILD], groups[key]) end
    end
  end

  -- Move up to ROOM edges of a parent into ENDS; return how many. What is left is kept for a later call. GONE: by queue, ids whose edges
  -- were all moved.
  local function take_edges(id, gave, edges, room, ends, gone)
    if gone[P] and gone[P][id] then return 0 end
    edges = edges or unpacked(call('HGET', $EDGES_FROM, id)) or {}
    local is_kept = call('HEXISTS', $MESSAGES, id) == 1
    local last, rest = math.min(room, #edges), {}
    local past = is_kept and unpacked(call('HGET', $EDGES_ENDED, id)) or {}
    for i, edge in ipairs(edges) do
      if i > last then rest[#rest + 1] = edge else past[#past + 1] = edge end
      if i <= last then ends[#ends + 1], ends[#ends + 2] = edge, gave end
    end
    if #rest > 0 then
      call('HSET', $EDGES_FROM, id, cmsgpack.pack(rest))
      call('HSET', $ENDED_PARENTS, id, cmsgpack.pack(gave))
    else
      gone[P] = gone[P] or {}
      gone[P][id] = true
      table.insert(gone[P], id)
    end
    if is_kept then call('HSET', $EDGES_ENDED, id, cmsgpack.pack(past)) end
    return last
  end

  local function forget_parents(ids)
    in_parts('HDEL', $EDGES_FROM, ids, 4000)
    in_parts('HDEL', $ENDED_PARENTS, ids, 4000)
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
      local ends, gone = {}, {}
      for i = at + 1, #ended_parents do
        local parent = ended_parents[i]
        if room > 0 then
          room = room - in_queue(parent[1], take_edges, parent[2], parent[3], parent[4], room, ends, gone)
        else
          in_queue(parent[1], keep_for_later, parent[2], parent[3])
        end
      end
      at = #ended_parents
      for prefix, ids in pairs(gone) do in_queue(prefix, forget_parents, ids) end
      -- This may end further parents: children that it cancels.
      end_all_edges(ends)
    end
    ended_parents = {}
  end
end
