-- Taking what is ready, best first.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
local function place_of(id)
  local state = load(id)
  return state and state[PLACE] or first_place(call('HGET', P .. 'm', id))
end

-- Priorities in use, the highest first.
local function priorities()
  local found, zero = {}, false
  for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do
    local priority = tonumber(name)
    if not priority then
      call('ZREM', P .. 'p', name)
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
    call('ZREM', P .. 'p', text(priority))
    call('HDEL', P .. 'l', text(priority))
  end
end

local function take_ranked(key, want)
  local members = call('ZRANGE', key, 0, want - 1)
  if #members > 0 then call('ZREMRANGEBYRANK', key, 0, #members - 1) end
  for i, member in ipairs(members) do members[i] = string.sub(member, 35) end
  return members
end

-- From the lists alone, while nothing stands beside them.
local function take_listed(want)
  if call('EXISTS', P .. 'p') == 0 then return call('LPOP', P .. 'q:0', want) or {} end
  local ids = {}
  for _, priority in ipairs(priorities()) do
    if #ids >= want then break end
    for _, id in ipairs(call('LPOP', lane_key(priority), want - #ids) or {}) do ids[#ids + 1] = id end
    forget_if_empty(priority)
  end
  return ids
end

-- From the lists and from what stands beside them.
local function take_merged(ids, want)
  local beside, next_beside = call('ZRANGE', P .. 'z', 0, want - 1), 1
  local levels, level = priorities(), 1
  local head, place
  while #ids < want do
    while not head and level <= #levels do
      head = call('LINDEX', lane_key(levels[level]), 0)
      if head then
        place = place_of(head)
      else
        forget_if_empty(levels[level])
        level = level + 1
      end
    end
    local member = beside[next_beside]
    if member and not (head and precedes(rank(levels[level], place, head), member)) then
      ids[#ids + 1] = string.sub(member, 35)
      next_beside = next_beside + 1
    elseif head then
      ids[#ids + 1] = call('LPOP', lane_key(levels[level]))
      head = false
    else
      break
    end
  end
  if next_beside > 1 then call('ZREMRANGEBYRANK', P .. 'z', 0, next_beside - 2) end
  for _, priority in ipairs(levels) do forget_if_empty(priority) end
  return ids
end

local function take(lanes, want)
  local ids = {}
  if lanes ~= 'o' then ids = take_ranked(P .. 'u', want) end
  if lanes == 'u' or #ids == want then return ids end
  if call('EXISTS', P .. 'z') == 1 then return take_merged(ids, want) end
  if #ids == 0 then return take_listed(want) end
  for _, id in ipairs(take_listed(want - #ids)) do ids[#ids + 1] = id end
  return ids
end

-- Make ready what is due, soonest first.
local function promote(limit, followed)
  local due, told = call('ZRANGEBYSCORE', P .. 's', '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, limit), {}
  for i = 1, #due, 2 do
    local id = due[i]
    local message = call('HGET', P .. 'm', id)
    call('ZREM', P .. 's', id)
    if message then
      local state, place = load(id), as_place(tonumber(due[i + 1]))
      if state then
        if state[PARKED] then drop_missing(id, message, state) end
        state[PLACE], state[DUE] = place, false
        save(id, state)
      end
      line_up(id, head_of(message)[PRIORITY], place, state and state[CRASHES] or 0)
      if followed then told[#told + 1] = { id, message, state and state[ATTEMPT] or 0 } end
    else
      forget(id)
    end
  end
  return told
end

-- Why a task that was taken must not run, or nil.
local function bar(id, message, state, has_marks, has_names)
  if has_marks and holds(call('HGET', P .. 'rv', id)) then return 'revoked' end
  if has_names then
    local head = head_of(message)
    local mark = call('HGET', P .. 'rn', head[NAME])
    if holds(mark) then
      if is_once(mark) then call('HDEL', P .. 'rn', head[NAME]) end
      return 'revoked'
    end
  end
  if string.byte(message, 1) ~= 45 then
    local expires = expires_at(message, state)
    if expires and expires <= now then return 'expired' end
  end
end

-- What the worker holds and somebody asked to cancel.
local function to_stop(worker)
  local held, asked = call('HKEYS', P .. 'h:' .. worker), {}
  if #held > 0 then
    local marks = call('HMGET', P .. 'rv', unpack(held))
    for i, id in ipairs(held) do
      if holds(marks[i]) then asked[#asked + 1] = id end
    end
  end
  return asked
end

-- Put back the last of what was taken, from some number on.
local function untake(ids, from)
  for i = from, #ids do
    local state = load(ids[i])
    call('ZADD', P .. (state and state[CRASHES] > 0 and 'u' or 'z'), 0, rank_of(ids[i], call('HGET', P .. 'm', ids[i]), state))
    ids[i] = nil
  end
end
