-- Putting in one task that may have terms.
-- KEYS    1: the queue's prefix
-- ARGV    a group of one, as insert.lua says
-- Returns nothing; a verb's script follows
local requested_of_head, brings_ready = {}, false

local function requested_at(at)
  local head = ARGV[at + 1]
  if requested_of_head[head] == nil then
    requested_of_head[head] = requested_in(cjson.decode(string.sub(head, 7))[OPTIONS]) or false
  end
  return requested_of_head[head]
end

-- What the clock holds: "i" and an id that stays known, "u" and a unique key.
local function kept(field)
  local found = call('HGET', P .. 'kp', field)
  if found then
    local expires, id = string.match(found, '^(%S+) (.*)$')
    return (tonumber(expires or '') or 0) > now and id
  end
end

local function keep(field, id, from, seconds)
  local expires = text(math.min(from + math.floor(seconds * 1000000 + 0.5), 2 ^ 62))
  call('HSET', P .. 'kp', field, expires .. ' ' .. id)
  call('ZADD', P .. 'kx', expires, field)
end

-- A task that is revoked and has not started.
local function gives_way(id)
  if not holds(call('HGET', P .. 'rv', id)) then return false end
  for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do
    if call('HEXISTS', P .. 'h:' .. worker, id) == 1 then return false end
  end
  return true
end

-- Because of whom a task is not put in: itself, if its id is known, or who holds its key.
local function met_by(id, requested)
  local known = requested.keep_id and kept('i' .. id)
  if known or not requested.unique then return known end
  local holder = call('HGET', P .. 'uk', requested.unique[1])
  if holder and call('HEXISTS', P .. 'm', holder) == 1 and not gives_way(holder) then return holder end
  if holder then call('HDEL', P .. 'uk', requested.unique[1]) end
  return kept('u' .. requested.unique[1])
end

-- An id that comes again: nothing is left of its former run.
local function forget_former(id)
  local former = load(id)
  if former then
    note_token(former[TOKEN])
    call('ZREM', P .. 'e:' .. former[STATE], id)
    call('HDEL', P .. 'm', id)
    call('HDEL', P .. 'd', id)
  end
  if call('HEXISTS', P .. 'v:result', id) == 1 then forget_values('result', { id }) end
end

-- Its new run begins above all tokens that it ever had.
local function begin_above(id)
  local state = fresh(call('HGET', P .. 'm', id))
  state[TOKEN] = top_token()
  save(id, state)
end

local function is_held(id, may_come_again)
  if call('HEXISTS', P .. 'm', id) == 0 then return false end
  local state = may_come_again and load(id)
  return not (state and state[FINISHED])
end

-- Put a task in: true. Or false, and the id of the task that is in its way, if it is not just held already.
local function consider(at, has_marks)
  local id, requested, priority, eta = ARGV[at + 6], requested_at(at), tonumber(ARGV[at + 2]), due_in(ARGV[at + 3])
  local own = requested and requested.own or nil
  if is_held(id, own) then return false, own and id end
  local other = requested and met_by(id, requested)
  if other then return false, other end
  if own then forget_former(id) end
  store(at, 1)
  if own then begin_above(id) end
  if has_marks then hand_over_marks({ id }, own) end
  call('HINCRBY', P .. 'n', text(minute) .. ':' .. ARGV[at + 4], 1)
  local due = eta and tonumber(eta) > now and eta
  local constraints
  if requested then
    if requested.keep_id then keep('i' .. id, id, due and tonumber(due) or now, requested.keep_id) end
    if requested.unique and type(requested.unique[2]) == 'number' then keep('u' .. requested.unique[1], id, now, requested.unique[2]) end
    constraints = note_constraints(id, requested)
    if constraints then take_key(id, constraints) end
  end
  if due then
    schedule({ id }, due)
  elseif constraints then
    line_up(id, priority, now, 0)
  else
    push(priority, now, { id })
    brings_ready = true
  end
  return true
end

-- What a producer is told of an enqueue is kept for the case that its answer is lost: what was in the way then may have ended, and other
-- tasks may be in the way since. Nothing is kept where nothing was in the way.
local function note_said(producer, number, met)
  if #met > 0 then call('HSET', P .. 'pa', producer, cmsgpack.pack({ number, met })) end
end

local function said_before(producer, number)
  local said = unpacked(call('HGET', P .. 'pa', producer))
  return said and said[1] == number and type(said[2]) == 'table' and said[2] or {}
end

-- After all were considered.
local function settle_in()
  level_what_was_touched()
  if brings_ready and call('HGET', P .. 'c', 'paused') ~= '1' then wake('o', 'r') end
end
