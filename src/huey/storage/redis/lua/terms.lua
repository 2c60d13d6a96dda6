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

local function has_terms()
  if is_shared == nil then is_shared = call('EXISTS', P .. 't') == 1 end
  return is_shared
end

-- Terms as they were packed; nil for what cannot be read: it wishes nothing.
local function as_terms(packed)
  local terms = unpacked(packed)
  if terms and (not terms[LIMIT] or (type(terms[LIMIT]) == 'string' and is_number(terms[AT_MOST]))) then
    if type(terms[UNIQUE] or '') == 'string' then return terms end
  end
end

local function terms_of(id)
  return has_terms() and as_terms(call('HGET', P .. 't', id)) or nil
end

-- What the options of a task wish of others, or nil.
local function wishes_in(options)
  if type(options) ~= 'string' or not string.find(options, '"terms"', 1, true) then return nil end
  local is_json, found = pcall(cjson.decode, options)
  local wishes = is_json and type(found) == 'table' and found.terms
  if type(wishes) ~= 'table' then return nil end
  local unique, limit = wishes.unique, wishes.limit
  if type(unique) ~= 'table' or type(unique[1]) ~= 'string' then wishes.unique = nil end
  if type(limit) ~= 'table' or type(limit[1]) ~= 'string' or not is_number(limit[2]) then wishes.limit = nil end
  if not is_number(wishes.keep_id) then wishes.keep_id = nil end
  return wishes
end

-- Note what is kept as long as the task has not ended, or nil if that is nothing.
local function note_terms(id, wishes)
  local unique, limit = wishes.unique, wishes.limit
  local holds_key = unique and type(unique[2]) == 'string'
  if not holds_key and not limit then return nil end
  local terms = { holds_key and unique[1], holds_key and unique[2], limit and limit[1], limit and limit[2] }
  for part = UNIQUE, AT_MOST do terms[part] = terms[part] or false end
  call('HSET', P .. 't', id, cmsgpack.pack(terms))
  is_shared = true
  return terms
end

local function take_key(id, terms)
  if terms[UNIQUE] then call('HSETNX', P .. 'uk', terms[UNIQUE], id) end
end

local function give_up_key(id, terms)
  if terms[UNIQUE] and call('HGET', P .. 'uk', terms[UNIQUE]) == id then call('HDEL', P .. 'uk', terms[UNIQUE]) end
end

-- Those that went back have their keys again, as far as those are free.
local function take_keys_again()
  if #back == 0 then return end
  table.sort(back, precedes)
  for _, id in ipairs(back) do
    local terms = terms_of(id)
    if terms then take_key(id, terms) end
  end
  back = {}
end

local function touch(terms)
  local limit = terms[LIMIT]
  if limit and not is_touched[limit] then
    is_touched[limit] = true
    touched[#touched + 1] = limit
  end
end

local function gate_of(terms)
  return redis.sha1hex(terms[LIMIT])
end

-- Let a task wait at its place: until its limit lets it in, if it has one, else for a worker.
local function line_up(id, priority, place, crashes)
  local terms = terms_of(id)
  if terms and terms[LIMIT] then
    call('ZADD', P .. 'lw', 0, gate_of(terms) .. rank(priority, place, id))
    touch(terms)
  else
    queue(id, priority, place, crashes)
  end
end

-- It was claimed.
local function begin(id, terms, message, state)
  if terms[LIMIT] then
    call('ZREM', P .. 'lo', gate_of(terms) .. rank_of(id, message, state))
    call('ZADD', P .. 'lr', 0, gate_of(terms) .. 'r' .. id)
  end
  if terms[WHILE] == 'waiting' then give_up_key(id, terms) end
end

-- It is not claimed any more.
local function let_go(id, terms)
  if terms[LIMIT] then
    call('ZREM', P .. 'lr', gate_of(terms) .. 'r' .. id)
    touch(terms)
  end
end

-- It goes back.
local function return_to(id)
  local terms = terms_of(id)
  if terms then
    let_go(id, terms)
    back[#back + 1] = id
  end
end

-- It has ended.
local function leave(id, terms)
  if terms then
    let_go(id, terms)
    give_up_key(id, terms)
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
  local terms = terms_of(id)
  if terms and terms[LIMIT] then
    local gate = gate_of(terms)
    for _, member in ipairs(call('ZRANGEBYLEX', P .. 'lo', '[' .. gate, '(' .. gate .. '~')) do
      if string.sub(member, ID) == id then call('ZREM', P .. 'lo', member) end
    end
  end
  leave(id, terms)
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
    local terms = is_held and terms_of(id)
    room = room or terms and terms[LIMIT] and terms[AT_MOST] - running
    if not terms or not terms[LIMIT] then
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
