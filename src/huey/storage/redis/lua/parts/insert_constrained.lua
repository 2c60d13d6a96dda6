-- Inserting tasks that may have constraints, one at a time.
-- ARGV    groups of one, as parts/insert.lua says
local requested_of_head, has_ready = {}, false

local function requested_at(at)
  local head = ARGV[at + 1]
  if requested_of_head[head] == nil then
    requested_of_head[head] = requested_in(cjson.decode(string.sub(head, 7))[OPTIONS]) or false
  end
  return requested_of_head[head]
end

-- The id for which a field is reserved: "i" and an id that stays known, or "u" and a unique key; false or nil if it is not.
local function reserved_for(field)
  local found = call('HGET', $RESERVATIONS, field)
  if found then
    local expires, id = string.match(found, '^(%S+) (.*)$')
    return (tonumber(expires or '') or 0) > now and id
  end
end

local function reserve(field, id, from, seconds)
  local expires = text(math.min(from + math.floor(seconds * 1000000 + 0.5), 2 ^ 62))
  call('HSET', $RESERVATIONS, field, expires .. ' ' .. id)
  call('ZADD', $RESERVATION_EXPIRIES, expires, field)
end

-- Whether a task is revoked and no worker has claimed it.
local function is_revoked_unstarted(id)
  if not is_active(call('HGET', $REVOKED, id)) then return false end
  for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do
    if call('HEXISTS', $LEASES_OF .. worker, id) == 1 then return false end
  end
  return true
end

-- The task because of which this one is not inserted: itself if its id is reserved, or the holder of its unique key.
local function duplicate_of(id, requested)
  local known = requested.keep_id and reserved_for('i' .. id)
  if known or not requested.unique then return known end
  local holder = call('HGET', $UNIQUE_KEYS, requested.unique[1])
  if holder and call('HEXISTS', $MESSAGES, holder) == 1 and not is_revoked_unstarted(holder) then return holder end
  if holder then call('HDEL', $UNIQUE_KEYS, requested.unique[1]) end
  return reserved_for('u' .. requested.unique[1])
end

-- Remove the remains of the earlier task of an id that is enqueued again.
local function drop_former_run(id)
  local former = load(id)
  if former then
    note_token(former[TOKEN])
    call('ZREM', ended_key(former), id)
    call('HDEL', $MESSAGES, id)
    call('HDEL', $STATES, id)
  end
  if call('HEXISTS', $RESULTS, id) == 1 then remove_values('result', { id }) end
  forget_edges(id)
end

-- Let the token of an id that is enqueued again begin above all that it ever had.
local function raise_token(id)
  local state = new_state(call('HGET', $MESSAGES, id))
  state[TOKEN] = top_token()
  save(id, state)
end

local function is_held(id, may_come_again)
  if call('HEXISTS', $MESSAGES, id) == 0 then return false end
  local state = may_come_again and load(id)
  return not (state and state[FINISHED])
end

-- Insert the task of ARGV[AT], which waits for PARENTS parents; return true. Or return false, and the id of the task of which it is a
-- duplicate unless it is held itself.
local function insert_constrained(at, has_revocations, parents)
  local id, requested, priority, eta = ARGV[at + 6], requested_at(at), tonumber(ARGV[at + 2]), due_in(ARGV[at + 3])
  local own = requested and requested.own or nil
  if is_held(id, own) then return false, own and id end
  local other = requested and duplicate_of(id, requested)
  if other then return false, other end
  if own then drop_former_run(id) end
  store(at, 1)
  if own then raise_token(id) end
  if has_revocations then apply_revocations({ id }, own) end
  call('HINCRBY', $PENDING, text(minute) .. ':' .. ARGV[at + 4], 1)
  local due = eta and tonumber(eta) > now and eta
  local constraints
  if requested then
    if requested.keep_id then reserve('i' .. id, id, due and tonumber(due) or now, requested.keep_id) end
    if requested.unique and type(requested.unique[2]) == 'number' then reserve('u' .. requested.unique[1], id, now, requested.unique[2]) end
    constraints = note_constraints(id, requested)
    if constraints then take_key(id, constraints) end
  end
  if parents and parents > 0 then
    call('ZADD', $WAITING, parents, id)
  elseif due then
    schedule({ id }, due)
  elseif constraints then
    enter_queue(id, priority, now, 0)
  else
    append_ready(priority, now, { id })
    has_ready = true
  end
  return true
end

-- The duplicates of an enqueue are kept in case the reply is lost: when it is sent again, those tasks may have ended, and others may hold
-- their keys. Without duplicates nothing is kept.
local function save_duplicates(sequence, number, duplicates)
  if #duplicates > 0 then call('HSET', $SEQUENCE_ANSWERS, sequence, cmsgpack.pack({ number, duplicates })) end
end

local function saved_duplicates(sequence, number)
  local saved = unpacked(call('HGET', $SEQUENCE_ANSWERS, sequence))
  return saved and saved[1] == number and type(saved[2]) == 'table' and saved[2] or {}
end

-- Call it after all tasks were inserted.
local function flush_constrained()
  rebalance_touched()
  if has_ready and call('HGET', $CONTROL, 'paused') ~= '1' then wake('o', 'r') end
end
