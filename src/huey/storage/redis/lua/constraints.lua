-- Terms of tasks: unique keys and limits. While no task that is held has any, nothing here costs more than one look.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- A limit: of the tasks of a key that are due, the best are ready, as many as it leaves beside what runs; the others wait where no claim
-- looks. Whoever changes what a key has due or running touches the key, and levels what was touched.
local UNIQUE, WHILE, LIMIT, AT_MOST = 1, 2, 3, 4
-- Before an id: 40 digits of its limit, and in lw and lo its rank; in lr the letter r.
local ID = 75
local is_shared, touched, is_touched, back = nil, {}, {}, {}

local function may_have_constraints()
  if is_shared == nil then is_shared = call('EXISTS', P .. 't') == 1 end
  return is_shared
end

-- Terms as they were packed; nil for what cannot be read: it wishes nothing.
local function as_constraints(packed)
  local constraints = unpacked(packed)
  if constraints and (not constraints[LIMIT] or (type(constraints[LIMIT]) == 'string' and is_number(constraints[AT_MOST]))) then
    if type(constraints[UNIQUE] or '') == 'string' then return constraints end
  end
end

local function read_constraints(id)
  return may_have_constraints() and as_constraints(call('HGET', P .. 't', id)) or nil
end

-- What the options of a task wish of others, or nil.
local function requested_in(options)
  if type(options) ~= 'string' or not string.find(options, '"constraints"', 1, true) then return nil end
  local is_json, found = pcall(cjson.decode, options)
  local requested = is_json and type(found) == 'table' and found.constraints
  if type(requested) ~= 'table' then return nil end
  local unique, limit = requested.unique, requested.limit
  if type(unique) ~= 'table' or type(unique[1]) ~= 'string' then requested.unique = nil end
  if type(limit) ~= 'table' or type(limit[1]) ~= 'string' or not is_number(limit[2]) then requested.limit = nil end
  if not is_number(requested.keep_id) then requested.keep_id = nil end
  return requested
end

-- Note what is kept as long as the task has not ended, or nil if that is nothing.
local function note_constraints(id, requested)
  local unique, limit = requested.unique, requested.limit
  local holds_key = unique and type(unique[2]) == 'string'
  if not holds_key and not limit then return nil end
  local constraints = { holds_key and unique[1], holds_key and unique[2], limit and limit[1], limit and limit[2] }
  for part = UNIQUE, AT_MOST do constraints[part] = constraints[part] or false end
  call('HSET', P .. 't', id, cmsgpack.pack(constraints))
  is_shared = true
  return constraints
end

local function take_key(id, constraints)
  if constraints[UNIQUE] then call('HSETNX', P .. 'uk', constraints[UNIQUE], id) end
end

local function give_up_key(id, constraints)
  if constraints[UNIQUE] and call('HGET', P .. 'uk', constraints[UNIQUE]) == id then call('HDEL', P .. 'uk', constraints[UNIQUE]) end
end

-- Those that went back have their keys again, as far as those are free.
local function take_keys_again()
  if #back == 0 then return end
  table.sort(back, precedes)
  for _, id in ipairs(back) do
    local constraints = read_constraints(id)
    if constraints then take_key(id, constraints) end
  end
  back = {}
end

local function touch(constraints)
  local limit = constraints[LIMIT]
  if limit and not is_touched[limit] then
    is_touched[limit] = true
    touched[#touched + 1] = limit
  end
end

local function gate_of(constraints)
  return redis.sha1hex(constraints[LIMIT])
end

-- Let a task wait at its place: until its limit lets it in, if it has one, else for a worker.
local function line_up(id, priority, place, crashes)
  local constraints = read_constraints(id)
  if constraints and constraints[LIMIT] then
    call('ZADD', P .. 'lw', 0, gate_of(constraints) .. rank(priority, place, id))
    touch(constraints)
  else
    queue(id, priority, place, crashes)
  end
end

-- It was claimed.
local function begin(id, constraints, message, state)
  if constraints[LIMIT] then
    call('ZREM', P .. 'lo', gate_of(constraints) .. rank_of(id, message, state))
    call('ZADD', P .. 'lr', 0, gate_of(constraints) .. 'r' .. id)
  end
  if constraints[WHILE] == 'waiting' then give_up_key(id, constraints) end
end

-- It is not claimed any more.
local function let_go(id, constraints)
  if constraints[LIMIT] then
    call('ZREM', P .. 'lr', gate_of(constraints) .. 'r' .. id)
    touch(constraints)
  end
end

-- It goes back.
local function return_to(id)
  local constraints = read_constraints(id)
  if constraints then
    let_go(id, constraints)
    back[#back + 1] = id
  end
end

-- It has ended.
local function leave(id, constraints)
  if constraints then
    let_go(id, constraints)
    give_up_key(id, constraints)
    call('HDEL', P .. 't', id)
  end
end

local function let_in(member)
  local state = load(string.sub(member, ID))
  local lane = state and state[CRASHES] > 0 and 'u' or 'o'
  call('ZREM', P .. 'lw', member)
  call('ZADD', P .. 'lo', 0, member)
  call('ZADD', P .. (lane == 'u' and 'u' or 'z'), 0, string.sub(member, 41))
  wake(lane, 'r')
end

local function take_out(member)
  call('ZREM', P .. 'lo', member)
  call('ZADD', P .. 'lw', 0, member)
  for _, lane in ipairs({ 'z', 'u' }) do call('ZREM', P .. lane, string.sub(member, 41)) end
end

-- Of what waits for a limit: it is no task, or none that has a limit.
local function drop_stray(member, is_held)
  call('ZREM', P .. 'lw', member)
  if is_held then call('ZADD', P .. 'z', 0, string.sub(member, 41)) end
end

-- An id stands for no task any more: nothing is to count it.
local function forget(id)
  local constraints = read_constraints(id)
  if constraints and constraints[LIMIT] then
    local gate = gate_of(constraints)
    for _, member in ipairs(call('ZRANGEBYLEX', P .. 'lo', '[' .. gate, '(' .. gate .. '~')) do
      if string.sub(member, ID) == id then call('ZREM', P .. 'lo', member) end
    end
  end
  leave(id, constraints)
  call('HDEL', P .. 'd', id)
end

local function level(limit)
  local gate = redis.sha1hex(limit)
  local from, to = '[' .. gate, '(' .. gate .. '~'
  local running, open = call('ZLEXCOUNT', P .. 'lr', from, to), call('ZLEXCOUNT', P .. 'lo', from, to)
  local room
  while true do
    local best = call('ZRANGEBYLEX', P .. 'lw', from, to, 'LIMIT', 0, 1)[1]
    if not best then return end
    -- The first one decides, or tasks with different numbers would let each other in and out for ever.
    local id = string.sub(best, ID)
    local is_held = call('HEXISTS', P .. 'm', id) == 1
    local constraints = is_held and read_constraints(id)
    room = room or constraints and constraints[LIMIT] and constraints[AT_MOST] - running
    if not constraints or not constraints[LIMIT] then
      drop_stray(best, is_held)
    elseif open < room then
      let_in(best)
      open = open + 1
    else
      local worst = open > 0 and call('ZREVRANGEBYLEX', P .. 'lo', to, from, 'LIMIT', 0, 1)[1]
      if not worst or (open <= room and not precedes(best, worst)) then return end
      take_out(worst)
      open = open - 1
    end
  end
end

local function level_what_was_touched()
  for _, limit in ipairs(touched) do level(limit) end
  touched, is_touched = {}, {}
end
