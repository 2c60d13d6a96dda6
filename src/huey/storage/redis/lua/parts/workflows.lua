-- Enqueueing a workflow.
-- A plan (JSON), with positions in ARGV that count from BASE:
--   queues    prefix, channel, position of the first and behind the last group of tasks that neither wait nor have constraints
--   singles   number of the queue, position of a group of one, number of parents, position of its event or -1; parents come first
--   edges     number of the child's queue, child, position, number of the parent's queue, parent, kind
--   replaces  number of the queue, new task, number of the old one's queue, old task
--   events    number of the queue, position, for the tasks of groups
local function is_live(id)
  local state = load(id)
  return call('HEXISTS', $MESSAGES, id) == 1 and not (state and state[FINISHED])
end

local function add_held(found, prefix, id)
  found[#found + 1] = prefix
  found[#found + 1] = id
end

-- Ids of the workflow that are held; as prefix and id in turns.
local function held_of(plan, base)
  local found = {}
  for _, queue in ipairs(plan.queues) do
    in_queue(queue[1], function()
      local at = base + queue[3]
      while at < base + queue[4] do
        for i = 1, tonumber(ARGV[at + 5]) do
          if call('HEXISTS', $MESSAGES, ARGV[at + 5 + i]) == 1 then add_held(found, P, ARGV[at + 5 + i]) end
        end
        at = at + 6 + 2 * tonumber(ARGV[at + 5])
      end
    end)
  end
  for _, single in ipairs(plan.singles) do
    in_queue(plan.queues[single[1]][1], function()
      local at = base + single[2]
      local id, requested = ARGV[at + 6], requested_at(at)
      local reserved = requested and requested.keep_id and reserved_for('i' .. id)
      if reserved or is_held(id, requested and requested.own) then add_held(found, P, id) end
    end)
  end
  return found
end

-- Tasks outside the workflow that are to be parents, or to be replaced, and are not held.
local function absent_of(plan)
  local found = {}
  for _, part in ipairs({ { plan.edges, 4 }, { plan.replaces, 3 } }) do
    for _, each in ipairs(part[1]) do
      local queue, id = each[part[2]], each[part[2] + 1]
      if not plan.is_own[queue .. '\0' .. id] then
        in_queue(plan.queues[queue][1], function()
          if not is_live(id) then add_held(found, P, id) end
        end)
      end
    end
  end
  return found
end

-- The holder of a unique key has ended: its stored result, of a success, joins; or nothing.
local function end_stand_in(id)
  local state = load(id)
  local result = not (state and state[STATE] ~= 'succeeded') and call('HGET', $RESULTS, id)
  if result and not is_past(result) then end_edges(id, 'succeeded', string.sub(result, $VALUE_IN_STAMPED)) else skip_edges(id) end
end

local function add_to(key, lists)
  for id, list in pairs(lists) do
    for _, each in ipairs(unpacked(call('HGET', key, id)) or {}) do list[#list + 1] = each end
    call('HSET', key, id, cmsgpack.pack(list))
  end
end

-- Store the edges; STAND_INS: number of the queue, NUL and id to the holder that takes the place of that task.
-- Return those holders, each with the number of its queue.
local function put_edges(plan, stand_ins)
  local from, to, holders = {}, {}, {}
  for number in ipairs(plan.queues) do from[number], to[number] = {}, {} end
  for _, edge in ipairs(plan.edges) do
    local child_queue, child, position, parent_queue, parent, kind = unpack(edge)
    if not stand_ins[child_queue .. '\0' .. child] then
      local holder = stand_ins[parent_queue .. '\0' .. parent]
      if holder then holders[parent_queue .. '\0' .. holder] = { parent_queue, holder } end
      parent = holder or parent
      local list, back = from[parent_queue][parent] or {}, to[child_queue][child] or {}
      list[#list + 1] = { plan.queues[child_queue][1], child, position, kind }
      back[#back + 1] = { position, kind, plan.queues[parent_queue][1], parent }
      from[parent_queue][parent], to[child_queue][child] = list, back
    end
  end
  for number, queue in ipairs(plan.queues) do
    in_queue(queue[1], function()
      add_to($EDGES_FROM, from[number])
      for id, list in pairs(to[number]) do call('HSET', $EDGES_TO, id, cmsgpack.pack(list)) end
    end)
  end
  return holders
end

local function retarget(key, id, old_queue, old, at, new)
  local edges = unpacked(call('HGET', key, id)) or {}
  for _, edge in ipairs(edges) do
    if edge[at] == old_queue and edge[at + 1] == old then edge[at], edge[at + 1] = new[1], new[2] end
  end
  if #edges > 0 then call('HSET', key, id, cmsgpack.pack(edges)) end
end

-- Give a new task all edges of an old one, which is revoked.
local function replace(new_queue, new, old_queue, old)
  local children, parents, gave = false, false, {}
  in_queue(old_queue, function()
    children, parents = unpacked(call('HGET', $EDGES_FROM, old)) or {}, unpacked(call('HGET', $EDGES_TO, old)) or {}
    for i, parent in ipairs(parents) do gave[i] = call('HGET', $EDGES_GIVEN, given_field(old, parent[AT])) end
    call('HDEL', $EDGES_FROM, old)
    forget_edges(old)
    if call('ZREM', $WAITING, old) == 0 then
      call('HSET', $REVOKED, old, '$FOREVER 0')
    else
      local message = call('HGET', $MESSAGES, old)
      local name = head_of(message)[NAME]
      count(minute, name, CANCELLED, 1, 0)
      end_task(old, message, name, load(old) or new_state(message), 'cancelled', 'revoked')
    end
  end)
  for _, edge in ipairs(children) do in_queue(edge[1], retarget, $EDGES_TO, edge[2], old_queue, old, PARENT_QUEUE, { new_queue, new }) end
  for _, parent in ipairs(parents) do
    in_queue(parent[PARENT_QUEUE], retarget, $EDGES_FROM, parent[PARENT], old_queue, old, CHILD_QUEUE, { new_queue, new })
  end
  in_queue(new_queue, function()
    if #children > 0 then call('HSET', $EDGES_FROM, new, cmsgpack.pack(children)) end
    if #parents > 0 then call('HSET', $EDGES_TO, new, cmsgpack.pack(parents)) end
    for i, parent in ipairs(parents) do
      if gave[i] then call('HSET', $EDGES_GIVEN, given_field(new, parent[AT]), gave[i]) end
    end
  end)
end

-- How many parents a task waits for because it replaces one that waits.
local function replaced_parents(plan)
  local found = {}
  for _, each in ipairs(plan.replaces) do
    in_queue(plan.queues[each[3]][1], function() found[each[1] .. '\0' .. each[2]] = tonumber(call('ZSCORE', $WAITING, each[4]) or 0) end)
  end
  return found
end

-- Insert the single tasks and note their events; return which holders of unique keys stand for some of them.
local function put_singles(plan, base)
  local stand_ins, replaced = {}, replaced_parents(plan)
  for _, single in ipairs(plan.singles) do
    in_queue(plan.queues[single[1]][1], function()
      local at = base + single[2]
      local id = ARGV[at + 6]
      local key = single[1] .. '\0' .. id
      local parents = single[3] + (replaced[key] or 0)
      has_ready = false
      local is_in, other = insert_constrained(at, call('EXISTS', $REVOKED_UNHELD) == 1, parents)
      if is_in then
        if single[4] >= 0 then plan.events[#plan.events + 1] = { single[1], single[4] } end
      else
        stand_ins[key] = other
      end
      if has_ready and call('HGET', $CONTROL, 'paused') ~= '1' then wake('o', 'r') end
    end)
  end
  return stand_ins
end

-- Put a workflow in. Return what kept it from that ('held', 'absent'), as prefix and id in turns; or 'in' and, as prefix, id and id in
-- turns, the holders of unique keys that stand for some of its tasks. The caller settles.
local function put_workflow(plan, base)
  local absent = absent_of(plan)
  if #absent > 0 then return 'absent', absent end
  local held = held_of(plan, base)
  if #held > 0 then return 'held', held end
  for _, queue in ipairs(plan.queues) do
    if queue[4] > queue[3] then in_queue(queue[1], insert, base + queue[3], base + queue[4]) end
  end
  local stand_ins = put_singles(plan, base)
  table.sort(plan.events, function(one, other) return one[2] < other[2] end)
  for _, event in ipairs(plan.events) do
    local queue = plan.queues[event[1]]
    in_queue(queue[1], publish_events, queue[2], base + event[2], base + event[2])
  end
  for _, each in pairs(put_edges(plan, stand_ins)) do
    in_queue(plan.queues[each[1]][1], function()
      if not is_live(each[2]) then end_stand_in(each[2]) end
    end)
  end
  for _, each in ipairs(plan.replaces) do replace(plan.queues[each[1]][1], each[2], plan.queues[each[3]][1], each[4]) end
  local answer = {}
  for key, other in pairs(stand_ins) do
    local number, id = string.match(key, '^(%d+)%z(.*)$')
    for _, part in ipairs({ plan.queues[tonumber(number)][1], id, other }) do answer[#answer + 1] = part end
  end
  return 'in', answer
end

-- A plan as it was sent, at ARGV[AT]. is_own: number of the queue, NUL and id of each of its tasks.
local function plan_at(at, base)
  local plan = cjson.decode(ARGV[at])
  plan.is_own = {}
  for _, single in ipairs(plan.singles) do plan.is_own[single[1] .. '\0' .. ARGV[base + single[2] + 6]] = true end
  for number, queue in ipairs(plan.queues) do
    local group = base + queue[3]
    while group < base + queue[4] do
      local size = tonumber(ARGV[group + 5])
      for i = 1, size do plan.is_own[number .. '\0' .. ARGV[group + 5 + i]] = true end
      group = group + 6 + 2 * size
    end
  end
  return plan
end
