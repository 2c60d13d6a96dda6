-- One trip of a worker: renew its lease, write the ends of runs, make ready what is due, claim.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: worker id  4: worker details  5: who it is, as part of a JSON object
--         6: lanes it takes from: o, u (suspects) or ou  7: want  8: microseconds that results are kept, or ""
--         9: "1" when there is no room: ends are written all the same, nothing is claimed; "p" when what became ready is to be named, whether
--         or not somebody follows  10: channel  11: number of events
--         12: number of plain successes, those with a value first  13: of their values  14: of other ends  15: of names they add up to
--         16: "1" if all tokens of successes are 1  17: number of the client that may call this turn off (key no:...), or ""
--         then events; ids of successes; their tokens unless all are 1; values;
--         15 for each other end: id, token, state, due, attempt, crashes, deaths, parked, "+" and reason, error, "+" and value,
--         microseconds it took, how it ended as part of a JSON object, microseconds from when it is due again to its expiry,
--         or "", new options or "";
--         for each name: name, row of numbers, how many minutes, minute and number that came in it in turns
-- Returns 2 if it was called off. 1 and the ids whose lease does not hold: then nothing was written, and the turn is to be sent again
--         without them. Or 0, ids and messages that were claimed, 1 if there are more than a turn brings; and, unless nothing else is to be
--         said: their states, those turned away (id, message, attempt, reason), promoted (id, message, attempt), to be stopped, next due
--         time or "", whether paused, whether followed, whether there may be more
if not is_rare then is_shared = false end
local after_done = may_have_constraints() and first_done + done or first_done
for part = first_done, after_done - 1, 1000 do
  for i, packed in ipairs(call('HMGET', P .. 't', unpack(ARGV, part, math.min(part + 999, after_done - 1)))) do
    if packed then leave(ARGV[part + i - 1], as_constraints(packed)) end
  end
end
local with_result = {}
for i = 0, fates - 1 do
  local at = first_fate + 15 * i
  call('HDEL', held, ARGV[at])
  if ARGV[at + 10] ~= '' then
    store_values('result', { ARGV[at] }, { ARGV[at], stamp .. string.sub(ARGV[at + 10], 2) }, expires)
    with_result[#with_result + 1] = ARGV[at]
  end
  settle(worker, ARGV[5], at)
end
take_keys_again()
if #with_result > 0 then announce(with_result) end

tell(channel, first_event, first_done - 1)
local is_paused = call('HGET', P .. 'c', 'paused') == '1'
local promoted = promote(500, followed or ARGV[9] == 'p')
level_what_was_touched()
if #ids == 0 and want > 0 and not is_paused then ids = take(lanes, want) end
local states, cancelled, stop = {}, {}, {}
local is_filled = want > 0 and #ids == want
local is_cut = false
if #ids > 0 then
  local taken = ids
  local all_messages, unheld = messages_of(taken)
  for _, id in ipairs(unheld) do forget(id) end
  is_cut = #all_messages < #taken
  if is_cut then untake(taken, #all_messages + 1) end
  local packed = #taken > 0 and call('EXISTS', P .. 'd') == 1 and call('HMGET', P .. 'd', unpack(taken)) or {}
  local has_marks, has_names = call('EXISTS', P .. 'rv') == 1, call('EXISTS', P .. 'rn') == 1
  local constraints, leases = #taken > 0 and may_have_constraints() and call('HMGET', P .. 't', unpack(taken)) or {}, {}
  ids, messages = {}, {}
  for i, id in ipairs(taken) do
    local message, state, constrained = all_messages[i], as_state(packed[i]), as_constraints(constraints[i])
    if constrained then begin(id, constrained, message, state) end
    local reason = bar(id, message, state, has_marks, has_names)
    if reason then
      state = state or fresh(message)
      state[TOKEN] = state[TOKEN] + 1
      local name = head_of(message)[NAME]
      count(minute, name, CANCELLED, 1, 0)
      finish(id, message, name, state, 'cancelled', reason)
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
  if lanes ~= 'u' and call('EXISTS', P .. 'q:0', P .. 'z', P .. 'p') > 0 then wake('o', 'r') end
  if lanes ~= 'o' and call('EXISTS', P .. 'u') == 1 then wake('u', 'r') end
end
local soonest = call('ZRANGE', P .. 's', 0, 0, 'WITHSCORES')[2] or ''
return { 0, ids, messages, states, cancelled, promoted, stop, soonest, is_paused and 1 or 0, followed and 1 or 0, (is_filled or is_cut) and 1 or 0 }
