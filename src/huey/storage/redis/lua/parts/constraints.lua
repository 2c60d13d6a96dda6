-- Constraints: unique keys, concurrency limits and rates. While no held task has any, nothing here costs more than one EXISTS.
-- How a limit is kept: of the due tasks of a concurrency key, the best are ready, as many as there is room beside the running ones; the
-- others are blocked, where no claim finds them. A change of the due or running tasks of a key touches the key, and the verb rebalances all
-- touched keys before it ends. A rate is kept in the same way: it leaves as much room as its window has uses left, and a claim spends them.
local UNIQUE, WHILE, LIMIT, MAX_RUNNING, USES, LENGTH, SPENT = 1, 2, 3, 4, 5, 6, 7
local has_constraints, touched, is_touched, requeued = nil, {}, {}, {}

local function may_have_constraints()
  if has_constraints == nil then has_constraints = call('EXISTS', $CONSTRAINTS) == 1 end
  return has_constraints
end

-- Packed constraints; nil if they cannot be read: then the task has none.
local function parse_constraints(packed)
  local constraints = unpacked(packed)
  if not constraints or type(constraints[UNIQUE] or '') ~= 'string' or type(constraints[LIMIT] or '') ~= 'string' then return nil end
  for part = MAX_RUNNING, SPENT do
    if constraints[part] and not is_number(constraints[part]) then return nil end
  end
  return constraints
end

local function read_constraints(id)
  return may_have_constraints() and parse_constraints(call('HGET', $CONSTRAINTS, id)) or nil
end

-- The constraints that the options of a head ask for, or nil.
local function requested_in(options)
  if type(options) ~= 'string' or not string.find(options, '"constraints"', 1, true) then return nil end
  local is_json, found = pcall(cjson.decode, options)
  local requested = is_json and type(found) == 'table' and found.constraints
  if type(requested) ~= 'table' then return nil end
  local unique, limit, rate = requested.unique, requested.limit, requested.rate
  if type(unique) ~= 'table' or type(unique[1]) ~= 'string' then requested.unique = nil end
  if type(limit) ~= 'table' or type(limit[1]) ~= 'string' then requested.limit = nil end
  if type(rate) ~= 'table' or not is_number(rate[1]) or not is_number(rate[2]) or rate[2] < 1 then requested.rate = nil end
  if not is_number(requested.keep_id) then requested.keep_id = nil end
  return requested
end

-- Store the part that is needed until the task ends, and return it; nil if nothing is needed.
local function note_constraints(id, requested)
  local unique, limit, rate = requested.unique, requested.limit, requested.rate
  local holds_key = unique and type(unique[2]) == 'string'
  if not holds_key and not limit then return nil end
  local constraints = { holds_key and unique[1], holds_key and unique[2] }
  if limit then
    constraints[LIMIT], constraints[MAX_RUNNING] = limit[1], is_number(limit[2]) and limit[2]
    if rate then constraints[USES], constraints[LENGTH] = rate[1], rate[2] end
  end
  for part = UNIQUE, SPENT do constraints[part] = constraints[part] or false end
  call('HSET', $CONSTRAINTS, id, cmsgpack.pack(constraints))
  has_constraints = true
  return constraints
end

local function take_key(id, constraints)
  if constraints[UNIQUE] then call('HSETNX', $UNIQUE_KEYS, constraints[UNIQUE], id) end
end

local function release_key(id, constraints)
  if constraints[UNIQUE] and call('HGET', $UNIQUE_KEYS, constraints[UNIQUE]) == id then call('HDEL', $UNIQUE_KEYS, constraints[UNIQUE]) end
end

-- Let requeued tasks take their unique keys again, as far as those are free, in the order of their ids.
local function retake_keys()
  if #requeued == 0 then return end
  table.sort(requeued, precedes)
  for _, id in ipairs(requeued) do
    local constraints = read_constraints(id)
    if constraints then take_key(id, constraints) end
  end
  requeued = {}
end

local function touch(constraints)
  local limit = constraints[LIMIT]
  if limit and not is_touched[limit] then
    is_touched[limit] = true
    touched[#touched + 1] = limit
  end
end

local function limit_hash(constraints)
  return redis.sha1hex(constraints[LIMIT])
end

-- Put a task into the queue at its ready_at: blocked if it has a limit, until that is rebalanced; else ready.
local function enter_queue(id, priority, ready_at, solo_crashes)
  local constraints = read_constraints(id)
  if constraints and constraints[LIMIT] then
    call('ZADD', $LIMIT_BLOCKED, 0, limit_hash(constraints) .. rank(priority, ready_at, id))
    touch(constraints)
  else
    add_ready(id, priority, ready_at, solo_crashes)
  end
end

-- The task was claimed.
local function after_claim(id, constraints, message, state)
  if constraints[LIMIT] then
    call('ZREM', $LIMIT_READY, limit_hash(constraints) .. rank_of(id, message, state))
    call('ZADD', $LIMIT_RUNNING, 0, limit_hash(constraints) .. 'r' .. id)
  end
  if constraints[WHILE] == 'waiting' then release_key(id, constraints) end
end

-- The task no longer runs.
local function release_limit(id, constraints)
  if constraints[LIMIT] then
    call('ZREM', $LIMIT_RUNNING, limit_hash(constraints) .. 'r' .. id)
    touch(constraints)
  end
end

-- The task goes back into the queue; retake_keys() follows.
local function after_requeue(id)
  local constraints = read_constraints(id)
  if constraints then
    release_limit(id, constraints)
    requeued[#requeued + 1] = id
  end
end

-- The task has ended, or is removed.
local function after_end(id, constraints)
  if constraints then
    release_limit(id, constraints)
    release_key(id, constraints)
    call('HDEL', $CONSTRAINTS, id)
  end
end

-- Make a blocked task ready.
local function unblock(member)
  local state = load(string.sub(member, $ID_IN_MEMBER))
  local lane = state and state[SOLO_CRASHES] > 0 and 'u' or 'o'
  call('ZREM', $LIMIT_BLOCKED, member)
  call('ZADD', $LIMIT_READY, 0, member)
  call('ZADD', lane == 'u' and $SUSPECTS or $READY_RANKED, 0, string.sub(member, $RANK_IN_MEMBER))
  wake(lane, 'r')
end

-- Make a ready task blocked again.
local function block(member)
  call('ZREM', $LIMIT_READY, member)
  call('ZADD', $LIMIT_BLOCKED, 0, member)
  for _, key in ipairs({ $READY_RANKED, $SUSPECTS }) do call('ZREM', key, string.sub(member, $RANK_IN_MEMBER)) end
end

-- Remove a blocked member that is not a task, or not one with a limit.
local function drop_stray(member, is_held)
  call('ZREM', $LIMIT_BLOCKED, member)
  if is_held then call('ZADD', $READY_RANKED, 0, string.sub(member, $RANK_IN_MEMBER)) end
end

-- Remove everything that refers to an id without a message.
local function drop_traces(id)
  local constraints = read_constraints(id)
  if constraints and constraints[LIMIT] then
    local hash = limit_hash(constraints)
    for _, member in ipairs(call('ZRANGEBYLEX', $LIMIT_READY, '[' .. hash, '(' .. hash .. '~')) do
      if string.sub(member, $ID_IN_MEMBER) == id then call('ZREM', $LIMIT_READY, member) end
    end
  end
  after_end(id, constraints)
  call('HDEL', $STATES, id)
end

-- The last window of a rate: when it began, when it ends, and how many tasks were claimed in it; nil, nil and 0 if there is none.
local function window_of(limit)
  local start, ends, used = string.match(call('HGET', $WINDOWS, limit) or '', '^(%d+) (%d+) (%-?%d+)$')
  return tonumber(start), tonumber(ends), tonumber(used) or 0
end

local function set_window(limit, start, ends, used)
  call('HSET', $WINDOWS, limit, text(start) .. ' ' .. text(ends) .. ' ' .. text(used))
end

-- The claimed task spends a use of its rate.
local function spend(id, constraints)
  local limit, length = constraints[LIMIT], constraints[LENGTH]
  if not limit or not length then return end
  local start, ends, used = window_of(limit)
  if not start or start < now - math.fmod(now, length) then
    start, used = now - math.fmod(now, length), 0
    ends = start + length
  end
  set_window(limit, start, ends, used + 1)
  constraints[SPENT] = start
  call('HSET', $CONSTRAINTS, id, cmsgpack.pack(constraints))
  touch(constraints)
end

-- The task never started: it gives its use back, while the window lasts.
local function refund(id)
  local constraints = read_constraints(id)
  if not constraints or not constraints[LIMIT] or not constraints[SPENT] then return end
  local start, ends, used = window_of(constraints[LIMIT])
  if start == constraints[SPENT] then set_window(constraints[LIMIT], start, ends, used - 1) end
end

-- How many tasks of a limit may be ready, if these are the constraints of the best blocked one.
local function room_of(constraints, running)
  local room = constraints[MAX_RUNNING] and constraints[MAX_RUNNING] - running or $RATE_AHEAD
  if not constraints[USES] then return room end
  local _, _, used = window_of(constraints[LIMIT])
  return math.min(room, constraints[USES] - used)
end

-- Tasks of the limit are blocked: note when its window ends. The best one says when, since an earlier one may have had another rate.
local function await_window(limit, constraints)
  local start, ends, used = window_of(limit)
  if not start then return call('ZREM', $AWAITED, limit) end
  if constraints[LENGTH] then
    ends = start - math.fmod(start, constraints[LENGTH]) + constraints[LENGTH]
    set_window(limit, start, ends, used)
  end
  if call('ZADD', $AWAITED, 'CH', text(ends), limit) == 1 and call('ZRANGE', $AWAITED, 0, 0)[1] == limit then
    wake('o', 's')
    wake('u', 's')
  end
end

-- Make the best due tasks of a limit ready, as many as there is room.
local function rebalance(limit)
  local hash = redis.sha1hex(limit)
  local from, to = '[' .. hash, '(' .. hash .. '~'
  local running, open = call('ZLEXCOUNT', $LIMIT_RUNNING, from, to), call('ZLEXCOUNT', $LIMIT_READY, from, to)
  local room
  while true do
    local best = call('ZRANGEBYLEX', $LIMIT_BLOCKED, from, to, 'LIMIT', 0, 1)[1]
    if not best then return call('ZREM', $AWAITED, limit) end
    -- The first task's maximum counts for all: tasks with different ones would block and unblock each other forever.
    local id = string.sub(best, $ID_IN_MEMBER)
    local is_held = call('HEXISTS', $MESSAGES, id) == 1
    local constraints = is_held and read_constraints(id)
    room = room or constraints and constraints[LIMIT] and room_of(constraints, running)
    if not constraints or not constraints[LIMIT] then
      drop_stray(best, is_held)
    elseif open < room then
      unblock(best)
      open = open + 1
    else
      local worst = open > 0 and call('ZREVRANGEBYLEX', $LIMIT_READY, to, from, 'LIMIT', 0, 1)[1]
      if not worst or (open <= room and not precedes(best, worst)) then return await_window(limit, constraints) end
      block(worst)
      open = open - 1
    end
  end
end

local function rebalance_touched()
  for _, limit in ipairs(touched) do rebalance(limit) end
  touched, is_touched = {}, {}
end

-- End the windows that are over and for whose end tasks are blocked.
local function end_windows()
  for _, limit in ipairs(call('ZRANGEBYSCORE', $AWAITED, '-inf', text(now), 'LIMIT', 0, $PROMOTE)) do
    call('HDEL', $WINDOWS, limit)
    call('ZREM', $AWAITED, limit)
    rebalance(limit)
  end
end
