-- Claiming ready tasks, best first.
local function ready_at_of(id)
  local state = load(id)
  return state and state[READY_AT] or first_ready_at(call('HGET', $MESSAGES, id))
end

-- Priorities in use, the highest first.
local function priorities()
  local found, zero = {}, false
  for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do
    local priority = tonumber(name)
    if not priority then
      call('ZREM', $PRIORITIES, name)
    else
      if priority < 0 and not zero then
        zero = true
        found[#found + 1] = 0
      end
      found[#found + 1] = priority
    end
  end
  if not zero then found[#found + 1] = 0 end
  return found
end

local function forget_if_empty(priority)
  if priority ~= 0 and call('EXISTS', lane_key(priority)) == 0 then
    call('ZREM', $PRIORITIES, text(priority))
    call('HDEL', $LIST_ENDS, text(priority))
  end
end

local function take_ranked(key, want)
  local members = call('ZRANGE', key, 0, want - 1)
  if #members > 0 then call('ZREMRANGEBYRANK', key, 0, #members - 1) end
  for i, member in ipairs(members) do members[i] = string.sub(member, $ID_IN_RANK) end
  return members
end

-- From the lists alone, while nothing is ranked beside them.
local function take_listed(want)
  if call('EXISTS', $PRIORITIES) == 0 then return call('LPOP', $READY, want) or {} end
  local ids = {}
  for _, priority in ipairs(priorities()) do
    if #ids >= want then break end
    for _, id in ipairs(call('LPOP', lane_key(priority), want - #ids) or {}) do ids[#ids + 1] = id end
    forget_if_empty(priority)
  end
  return ids
end

-- From the lists and the tasks ranked beside them, merged.
local function take_merged(ids, want)
  local ranked, next_ranked = call('ZRANGE', $READY_RANKED, 0, want - 1), 1
  local levels, level = priorities(), 1
  local head, ready_at
  while #ids < want do
    while not head and level <= #levels do
      head = call('LINDEX', lane_key(levels[level]), 0)
      if head then
        ready_at = ready_at_of(head)
      else
        forget_if_empty(levels[level])
        level = level + 1
      end
    end
    local member = ranked[next_ranked]
    if member and not (head and precedes(rank(levels[level], ready_at, head), member)) then
      ids[#ids + 1] = string.sub(member, $ID_IN_RANK)
      next_ranked = next_ranked + 1
    elseif head then
      ids[#ids + 1] = call('LPOP', lane_key(levels[level]))
      head = false
    else
      break
    end
  end
  if next_ranked > 1 then call('ZREMRANGEBYRANK', $READY_RANKED, 0, next_ranked - 2) end
  for _, priority in ipairs(levels) do forget_if_empty(priority) end
  return ids
end

-- Up to WANT ids of the lanes, removed from them.
local function take(lanes, want)
  local ids = {}
  if lanes ~= 'o' then ids = take_ranked($SUSPECTS, want) end
  if lanes == 'u' or #ids == want then return ids end
  if call('EXISTS', $READY_RANKED) == 1 then return take_merged(ids, want) end
  if #ids == 0 then return take_listed(want) end
  for _, id in ipairs(take_listed(want - #ids)) do ids[#ids + 1] = id end
  return ids
end

-- Make due tasks ready, soonest first; return id, message and attempt of each if REPORTED.
local function promote(limit, reported)
  local due, promoted = call('ZRANGEBYSCORE', $SCHEDULED, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, limit), {}
  for i = 1, #due, 2 do
    local id = due[i]
    local message = call('HGET', $MESSAGES, id)
    call('ZREM', $SCHEDULED, id)
    if message then
      local state, ready_at = load(id), clamp_time(tonumber(due[i + 1]))
      if state then
        if state[UNKNOWN_UNTIL] then remove_missing(id, message, state) end
        state[READY_AT], state[DUE] = ready_at, false
        save(id, state)
      end
      enter_queue(id, head_of(message)[PRIORITY], ready_at, state and state[SOLO_CRASHES] or 0)
      if reported then promoted[#promoted + 1] = { id, message, state and state[ATTEMPT] or 0 } end
    else
      drop_traces(id)
    end
  end
  return promoted
end

-- Why a taken task must not run, or nil.
local function skip_reason(id, message, state, has_revocations, has_names)
  if has_revocations and is_active(call('HGET', $REVOKED, id)) then return 'revoked' end
  if has_names then
    local head = head_of(message)
    local revocation = call('HGET', $REVOKED_NAMES, head[NAME])
    if is_active(revocation) then
      if is_once(revocation) then call('HDEL', $REVOKED_NAMES, head[NAME]) end
      return 'revoked'
    end
  end
  if string.byte(message, 1) ~= $PLAIN then
    local expires = expires_at(message, state)
    if expires and expires <= now then return 'expired' end
  end
end

-- The tasks of a worker that are revoked.
local function revoked_leases(worker)
  local held, asked = call('HKEYS', $LEASES_OF .. worker), {}
  if #held > 0 then
    local revocations = call('HMGET', $REVOKED, unpack(held))
    for i, id in ipairs(held) do
      if is_active(revocations[i]) then asked[#asked + 1] = id end
    end
  end
  return asked
end

-- Return taken ids to their lanes, from number FROM on.
local function return_taken(ids, from)
  for i = from, #ids do
    local state = load(ids[i])
    call('ZADD', state and state[SOLO_CRASHES] > 0 and $SUSPECTS or $READY_RANKED, 0, rank_of(ids[i], call('HGET', $MESSAGES, ids[i]), state))
    ids[i] = nil
  end
end
