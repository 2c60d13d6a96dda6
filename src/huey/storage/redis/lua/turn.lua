-- One trip of a worker: renew its lease, write the ends of runs, make ready what is due, claim.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: worker id  4: worker details  5: who it is, as part of a JSON object
--         6: lanes it takes from: o, u (suspects) or ou  7: want  8: microseconds that results are kept, or ""
--         9: "1" when there is no room: ends are written all the same, nothing is claimed  10: channel  11: number of events
--         12: number of plain successes, those with a value first  13: of their values  14: of other ends  15: of names they add up to
--         16: "1" if all tokens of successes are 1
--         then events; ids of successes; their tokens unless all are 1; values;
--         13 for each other end: id, token, state, due, attempt, crashes, deaths, parked, "+" and reason, error, "+" and value,
--         microseconds it took, how it ended as part of a JSON object;
--         for each name: name, row of numbers, how many minutes, minute and number that came in it in turns
-- Returns 1 and the ids whose lease does not hold: then nothing was written, and the turn is to be sent again without them. Or 0, ids and
--         messages that were claimed, 1 if there are more than a turn brings; and, unless nothing else is to be said: their states, those turned away (id, message, attempt,
--         reason), promoted (id, message, attempt), to be stopped, next due time or "", whether paused, whether followed
local worker, lanes, want, channel = ARGV[3], ARGV[6], tonumber(ARGV[7]), ARGV[10]
local done, valued, fates = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local all_first = ARGV[16] == '1'
local first_event = 17
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

local function leave_all(from, to)
  for at = from, to, 1000 do
    for i, packed in ipairs(call('HMGET', P .. 't', unpack(ARGV, at, math.min(at + 999, to)))) do
      if packed then leave(ARGV[at + i - 1], cmsgpack.unpack(packed)) end
    end
  end
end

if done + fates > 0 then
  local refused = {}
  unheld(refused, first_done, done, 1, not all_first and done)
  unheld(refused, first_fate, fates, 13, 1)
  if #refused > 0 then return { 1, refused } end
end
if ARGV[9] == '1' then
  -- A script that has written may go on writing: the ends of what ran need room, and bring some.
  call('DEL', P .. 'none')
  want = 0
end

renew(worker, ARGV[4], ARGV[2])

local expires = ARGV[8] ~= '' and now + tonumber(ARGV[8]) or 0
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

local with_result
if done > 0 then
  local last = first_done + done - 1
  ranged('HDEL', held, first_done, last)
  ranged('HDEL', P .. 'm', first_done, last)
  if call('EXISTS', P .. 'd', P .. 'rv', P .. 't') > 0 then
    ranged('HDEL', P .. 'd', first_done, last)
    ranged('HDEL', P .. 'rv', first_done, last)
    if has_terms() then leave_all(first_done, last) end
  end
  if valued > 0 then with_result = keep_results() end
end
for i = 0, fates - 1 do
  local at = first_fate + 13 * i
  call('HDEL', held, ARGV[at])
  if ARGV[at + 10] ~= '' then
    store_values('result', { ARGV[at] }, { ARGV[at], stamp .. string.sub(ARGV[at + 10], 2) }, expires)
    with_result = with_result or {}
    with_result[#with_result + 1] = ARGV[at]
  end
  settle(worker, ARGV[5], at)
end
take_keys_again()
if with_result then announce(with_result) end

local at = first_fate + 13 * fates
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
local by_reader, by_channel = is_followed(channel)
local followed = by_reader or by_channel

if not is_rare and not followed then
  -- As most turns are: nothing is scheduled, marked, put back, paused, of another priority or with terms.
  is_shared = false
  if want > 0 and lanes ~= 'u' then
    ids = call('LPOP', P .. 'q:0', want) or {}
    if #ids > 0 then
      messages = messages_of(ids)
      local is_cut = #messages < #ids
      if is_cut then untake(ids, #messages + 1) end
      local leases, plain = {}, true
      for i = 1, #ids do
        leases[2 * i - 1], leases[2 * i] = ids[i], '1'
        if string.byte(messages[i], 1) ~= 45 then plain = false end
      end
      if plain then
        call('HSET', held, unpack(leases))
        if is_cut or (#ids == want and call('EXISTS', P .. 'q:0') == 1) then wake('o', 'r') end
        return { 0, ids, messages, is_cut and 1 or nil }
      end
    else
      return { 0, ids, messages }
    end
  else
    return { 0, ids, messages }
  end
end

tell(channel, first_event, first_done - 1)
local is_paused = call('HGET', P .. 'c', 'paused') == '1'
local promoted = promote(500, followed)
level_what_was_touched()
if #ids == 0 and want > 0 and not is_paused then ids = take(lanes, want) end
local states, cancelled, stop = {}, {}, {}
local is_filled = want > 0 and #ids == want
local is_cut = false
if #ids > 0 then
  local taken = ids
  local all_messages = messages_of(taken)
  is_cut = #all_messages < #taken
  if is_cut then untake(taken, #all_messages + 1) end
  local packed = call('EXISTS', P .. 'd') == 1 and call('HMGET', P .. 'd', unpack(taken)) or {}
  local has_marks, has_names = call('EXISTS', P .. 'rv') == 1, call('EXISTS', P .. 'rn') == 1
  local terms, leases = has_terms() and call('HMGET', P .. 't', unpack(taken)) or {}, {}
  ids, messages = {}, {}
  for i, id in ipairs(taken) do
    local message, state = all_messages[i], packed[i] and cmsgpack.unpack(packed[i])
    if terms[i] then begin(id, cmsgpack.unpack(terms[i]), message, state) end
    local reason = bar(id, message, state, has_marks, has_names)
    if reason then
      state = state or fresh(message)
      state[TOKEN] = state[TOKEN] + 1
      count(minute, head_of(message)[NAME], CANCELLED, 1, 0)
      finish(id, message, state, 'cancelled', reason)
      cancelled[#cancelled + 1] = { id, message, state[ATTEMPT], reason }
    else
      local n = #ids + 1
      ids[n], messages[n], states[n] = id, message, state or false
      leases[2 * n - 1], leases[2 * n] = id, text(state and state[TOKEN] + 1 or 1)
    end
  end
  if #leases > 0 then in_parts('HSET', held, leases, 4000) end
  level_what_was_touched()
end
if call('EXISTS', P .. 'rv') == 1 then stop = to_stop(worker) end
if is_filled or is_cut then
  if lanes ~= 'u' and (call('EXISTS', P .. 'q:0', P .. 'z') > 0 or call('EXISTS', P .. 'p') == 1) then wake('o', 'r') end
  if lanes ~= 'o' and call('EXISTS', P .. 'u') == 1 then wake('u', 'r') end
end
local soonest = call('ZRANGE', P .. 's', 0, 0, 'WITHSCORES')[2] or ''
return { 0, ids, messages, states, cancelled, promoted, stop, soonest, is_paused and 1 or 0, followed and 1 or 0, (is_filled or is_cut) and 1 or 0 }
