-- Writing finishes other than a plain success.

-- Id to what the children of a task get of it, where that is not its result.
local outputs = {}

-- The task has ended. A revocation for one run only is used up by it.
local function end_task(id, message, name, state, how, reason)
  state[STATE], state[REASON], state[FINISHED], state[CRASHED_WORKER] = how, reason, text(now), false
  local revocation = call('HGET', $REVOKED, id)
  if revocation then call('HDEL', $REVOKED, id) end
  state[REVOKED] = revocation and not is_once(revocation) and revocation
  save(id, state)
  local is_kept = how == 'succeeded' and state[DUE]
  call('ZADD', ended_key(state), is_kept or text(now), id)
  after_end(id, read_constraints(id))
  count_end(message, name)
end

-- The task runs again: now behind all ready tasks, at a due time in the past before them, or later.
local function requeue(id, priority, state, due)
  state[STATE], state[CRASHED_WORKER], state[DUE] = 'queued', false, false
  after_requeue(id)
  if due and tonumber(due) > now then
    state[DUE] = due
    if state[UNKNOWN_UNTIL] then state[READY_AT] = now end
    save(id, state)
    schedule({ id }, due)
    if state[UNKNOWN_UNTIL] then add_missing(id, call('HGET', $MESSAGES, id), state) end
  else
    state[READY_AT] = due and clamp_time(tonumber(due)) or now
    save(id, state)
    enter_queue(id, priority, state[READY_AT], state[SOLO_CRASHES])
  end
end

-- Record a run: its worker, when it ended, and how (both parts of a JSON object).
local function add_attempt(state, who, tail)
  local attempts = state[ATTEMPTS] or {}
  attempts[#attempts + 1] = '{' .. (state[CRASHED_WORKER] or who) .. ', "at": ' .. text(now) .. ', ' .. tail .. '}'
  if #attempts > $ATTEMPTS_KEPT then table.remove(attempts, 1) end
  state[ATTEMPTS] = attempts
end

-- Write the finish at ARGV[AT]; turn.lua has its fields. The message may be missing after damage.
local function write_finish(who, at)
  local id, token, how, due_argument, attempt, solo_crashes, deaths, unknown_until, reason, error_text, _, duration, tail, expires_in, options =
    unpack(ARGV, at, at + $FINISH_SIZE - 1)
  local message = call('HGET', $MESSAGES, id)
  if not message then return drop_traces(id) end
  local due, state, head = due_in(due_argument), load(id) or new_state(message), head_of(message)
  attempt, solo_crashes, deaths, duration = tonumber(attempt), tonumber(solo_crashes), tonumber(deaths), tonumber(duration)
  state[TOKEN] = tonumber(token)
  if how == 'succeeded' then
    count(minute, head[NAME], SUCCEEDED, 1, duration)
    local value = ARGV[at + 10]
    end_edges(id, how, outputs[id] or (value ~= '' and string.sub(value, 2)))
    state[DUE] = due or false
    if due then forget_edges(id) end
    return end_task(id, message, head[NAME], state, how, false)
  end
  local is_try = attempt > state[ATTEMPT]
  if error_text ~= '' or deaths > state[DEATHS] or solo_crashes > state[SOLO_CRASHES] then add_attempt(state, who, tail) end
  state[ATTEMPT], state[SOLO_CRASHES], state[DEATHS] = attempt, solo_crashes, deaths
  -- "0": from now on, which is until it is due.
  state[UNKNOWN_UNTIL] = unknown_until ~= '' and (unknown_until ~= '0' and unknown_until or due)
  if error_text ~= '' then state[ERROR] = error_text end
  reason = reason ~= '' and string.sub(reason, 2)
  if how ~= 'queued' then
    count(minute, head[NAME], how == 'failed' and FAILED or CANCELLED, 1, duration)
    end_task(id, message, head[NAME], state, how, reason)
    if how == 'failed' or (error_text ~= '' and reason ~= 'revoked') then fail_edges(id, error_text) else skip_edges(id) end
  elseif is_active(call('HGET', $REVOKED, id)) then
    count(minute, head[NAME], CANCELLED, 1, duration)
    end_task(id, message, head[NAME], state, 'cancelled', 'revoked')
    skip_edges(id)
  else
    if is_try then count(minute, head[NAME], RETRIED, 1, duration) end
    state[REASON] = reason
    if expires_in ~= '' then state[EXPIRY] = text(math.max(now, tonumber(due or '') or 0) + tonumber(expires_in)) end
    if options ~= '' then state[OPTIONS_NOW] = options end
    requeue(id, head[PRIORITY], state, due)
  end
end
