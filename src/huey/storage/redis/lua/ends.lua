-- The ends of runs, and of tasks.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- No further run. A mark for once goes with this one.
local function finish(id, message, name, state, how, reason)
  state[STATE], state[REASON], state[FINISHED], state[LOST_BY] = how, reason, text(now), false
  local mark = call('HGET', P .. 'rv', id)
  if mark then call('HDEL', P .. 'rv', id) end
  state[REVOKED] = mark and not is_once(mark) and mark
  save(id, state)
  call('ZADD', P .. 'e:' .. how, text(now), id)
  leave(id, read_constraints(id))
  ended(message, name)
end

-- Another run: at once behind what waits, at a place in the past, or later.
local function put_back(id, priority, state, due)
  state[STATE], state[LOST_BY], state[DUE] = 'queued', false, false
  return_to(id)
  if due and tonumber(due) > now then
    state[DUE] = due
    if state[PARKED] then state[PLACE] = now end
    save(id, state)
    schedule({ id }, due)
    if state[PARKED] then note_missing(id, call('HGET', P .. 'm', id), state) end
  else
    state[PLACE] = due and as_place(tonumber(due)) or now
    save(id, state)
    line_up(id, priority, state[PLACE], state[CRASHES])
  end
end

local function note_attempt(state, who, tail)
  local attempts = state[ATTEMPTS] or {}
  attempts[#attempts + 1] = '{' .. (state[LOST_BY] or who) .. ', "at": ' .. text(now) .. ', ' .. tail .. '}'
  if #attempts > 5 then table.remove(attempts, 1) end
  state[ATTEMPTS] = attempts
end

-- An end that is more than a plain success. FIELDS: from there on in ARGV, as turn.lua says.
local function settle(worker, who, at)
  local id, how, due = ARGV[at], ARGV[at + 2], due_in(ARGV[at + 3])
  local attempt, crashes, deaths = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local error_text, took = ARGV[at + 9] ~= '' and ARGV[at + 9], tonumber(ARGV[at + 11])
  local message = call('HGET', P .. 'm', id)
  if not message then return forget(id) end
  local state, head = load(id) or fresh(message), head_of(message)
  state[TOKEN] = tonumber(ARGV[at + 1])
  if how == 'succeeded' then
    count(minute, head[NAME], SUCCEEDED, 1, took)
    return finish(id, message, head[NAME], state, how, false)
  end
  local is_try = attempt > state[ATTEMPT]
  if error_text or deaths > state[DEATHS] or crashes > state[CRASHES] then note_attempt(state, who, ARGV[at + 12]) end
  state[ATTEMPT], state[CRASHES], state[DEATHS] = attempt, crashes, deaths
  state[PARKED] = ARGV[at + 7] ~= '' and (ARGV[at + 7] == '0' and due or ARGV[at + 7])
  state[ERROR] = error_text or state[ERROR]
  local reason = ARGV[at + 8] ~= '' and string.sub(ARGV[at + 8], 2)
  if how ~= 'queued' then
    count(minute, head[NAME], how == 'failed' and FAILED or CANCELLED, 1, took)
    finish(id, message, head[NAME], state, how, reason)
  elseif holds(call('HGET', P .. 'rv', id)) then
    count(minute, head[NAME], CANCELLED, 1, took)
    finish(id, message, head[NAME], state, 'cancelled', 'revoked')
  else
    if is_try then count(minute, head[NAME], RETRIED, 1, took) end
    state[REASON] = reason
    if ARGV[at + 13] ~= '' then state[EXPIRY] = text(math.max(now, tonumber(due or '') or 0) + tonumber(ARGV[at + 13])) end
    if ARGV[at + 14] ~= '' then state[OPTIONS_NOW] = ARGV[at + 14] end
    put_back(id, head[PRIORITY], state, due)
  end
end
