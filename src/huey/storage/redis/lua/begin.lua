-- How a turn begins, and for most turns all of it: renew the lease, write successes, claim what is plainly ready.
-- KEYS    1: the queue's prefix
-- ARGV    as in turn.lua
-- Returns as in turn.lua, unless there is more to do; then the rest of the turn follows. What only that needs is not made before.
-- Ids that have no message stand for nothing: they are taken out of the list.
local function sift(ids)
  local unheld, n, last = {}, 0, #ids
  for i = 1, last do
    local id = ids[i]
    if call('HEXISTS', P .. 'm', id) == 1 then
      n = n + 1
      ids[n] = id
    else
      unheld[#unheld + 1] = id
    end
  end
  for i = n + 1, last do ids[i] = nil end
  return unheld
end

-- Messages of ids, in order, until they weigh 8 MiB: those of the last ids may be missing then. And those of the ids that stood for nothing.
local function messages_of(ids, unheld)
  local messages, size = {}, 0
  for from = 1, #ids, 32 do
    local part = call('HMGET', P .. 'm', unpack(ids, from, math.min(from + 31, #ids)))
    for i = 1, #part do
      local message = part[i]
      if not message then return messages_of(ids, sift(ids)) end
      messages[from + i - 1] = message
      size = size + #message
      if size > 8388608 then return messages, unheld or {} end
    end
  end
  return messages, unheld or {}
end

if ARGV[17] ~= '' and call('DEL', P .. 'no:' .. ARGV[17]) == 1 then return { 2 } end
local worker, lanes, want, channel = ARGV[3], ARGV[6], tonumber(ARGV[7]), ARGV[10]
local done, valued, fates = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local all_first = ARGV[16] == '1'
local first_event = 18
local first_done = first_event + ARGV[11]
local first_value = first_done + (all_first and 1 or 2) * done
local first_fate = first_value + valued
local held = P .. 'h:' .. worker

local function ranged(verb, key, from, to)
  for at = from, to, 4000 do call(verb, key, unpack(ARGV, at, math.min(at + 3999, to))) end
end

-- Of the ids from there on, those whose lease does not hold; STEP apart, tokens AWAY from the ids, or all 1.
local function unheld(refused, from, how_many, step, away)
  local at = from
  for part = 1, how_many, 1000 do
    local size = math.min(1000, how_many - part + 1)
    local tokens
    if step == 1 then
      tokens = call('HMGET', held, unpack(ARGV, at, at + size - 1))
    else
      local ids = {}
      for i = 1, size do ids[i] = ARGV[at + (i - 1) * step] end
      tokens = call('HMGET', held, unpack(ids))
    end
    for i = 1, size do
      if tokens[i] ~= (away and ARGV[at + away] or '1') then refused[#refused + 1] = ARGV[at] end
      at = at + step
    end
  end
end

if done + fates > 0 then
  local refused = {}
  unheld(refused, first_done, done, 1, not all_first and done)
  unheld(refused, first_fate, fates, 15, 1)
  if #refused > 0 then return { 1, refused } end
end
if ARGV[9] == '1' then
  -- A script that has written may go on writing: the ends of what ran need room, and bring some.
  call('DEL', P .. 'none')
  want = 0
end

renew(worker, ARGV[4], ARGV[2])

local expires = expiry_after(ARGV[8])
local stamp = string.format('%016.0f', expires)
local function keep_results()
  local ids, fields = {}, {}
  for i = 1, valued do
    local id = ARGV[first_done + i - 1]
    ids[i], fields[2 * i - 1], fields[2 * i] = id, id, stamp .. ARGV[first_value + i - 1]
  end
  store_values('result', ids, fields, expires)
  return ids
end

if done > 0 then
  local last = first_done + done - 1
  if not all_first then
    local top = 1
    for i = last + 1, last + done do top = math.max(top, tonumber(ARGV[i])) end
    note_token(top)
  end
  ranged('HDEL', held, first_done, last)
  ranged('HDEL', P .. 'm', first_done, last)
  if call('EXISTS', P .. 'd') == 1 then ranged('HDEL', P .. 'd', first_done, last) end
  if call('EXISTS', P .. 'rv') == 1 then ranged('HDEL', P .. 'rv', first_done, last) end
  if valued > 0 then announce(keep_results()) end
end

local at = first_fate + 15 * fates
for _ = 1, tonumber(ARGV[15]) do
  local name, row, minutes = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  for _ = 1, minutes do
    local start, how_many = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    living(start, name, -how_many)
    if start == minute then
      row = struct.pack('<d', how_many) .. string.sub(row, 9)
    else
      count(start, name, ENQUEUED, how_many, 0)
    end
    at = at + 2
  end
  add_row(60, minute, name, row)
end

local ids, messages = {}, {}
local is_rare = call('EXISTS', P .. 'c', P .. 's', P .. 'd', P .. 'rv', P .. 'rn', P .. 'z', P .. 'u', P .. 'p', P .. 't') > 0
local followed = call('PUBSUB', 'NUMSUB', channel)[2] > 0
if is_rare then followed = followed or (tonumber(call('HGET', P .. 'c', 'followed') or '') or 0) > now end

if fates == 0 and not is_rare and not followed then
  -- As most turns are: nothing is scheduled, marked, put back, paused, of another priority or with terms.
  if want > 0 and lanes ~= 'u' then ids = call('LPOP', P .. 'q:0', want) or {} end
  if #ids == 0 then return { 0, ids, messages } end
  local taken = #ids
  messages = messages_of(ids)
  local is_cut = #messages < #ids
  for i = #ids, #messages + 1, -1 do
    call('LPUSH', P .. 'q:0', ids[i])
    ids[i] = nil
  end
  local leases, plain = {}, true
  for i = 1, #ids do
    leases[2 * i - 1], leases[2 * i] = ids[i], '1'
    if string.byte(messages[i], 1) ~= 45 then plain = false end
  end
  if plain then
    if #ids > 0 then call('HSET', held, unpack(leases)) end
    if is_cut or (taken == want and call('EXISTS', P .. 'q:0') == 1) then wake('o', 'r') end
    return { 0, ids, messages, is_cut and 1 or nil }
  end
end
