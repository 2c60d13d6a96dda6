-- Read tasks.
-- ARGV    1: now or ""  2..: ids
-- Returns for each id: nil, or id, message, state or nil, how it is ("ready", "scheduled", "blocked", "missing", "running", "waiting",
--         "ended"), due time or worker, token, revocation or nil
-- include: base lanes constraints
local workers, found = call('ZRANGE', $WORKER_LEASES, 0, -1), {}
local has_waiting = call('EXISTS', $WAITING) == 1
local has_limits = call('EXISTS', $LIMIT_BLOCKED) == 1

local function is_blocked(id, message, state)
  local constraints = has_limits and read_constraints(id)
  if not constraints or not constraints[LIMIT] then return false end
  return call('ZSCORE', $LIMIT_BLOCKED, limit_hash(constraints) .. rank_of(id, message, state))
end

local function situation_of(id, message, state)
  if state and state[FINISHED] then return 'ended', '', state[TOKEN], state[REVOKED] end
  local revocation = call('HGET', $REVOKED, id)
  for _, worker in ipairs(workers) do
    local token = call('HGET', $LEASES_OF .. worker, id)
    if token then return 'running', worker, tonumber(token) or 0, revocation end
  end
  if has_waiting and call('ZSCORE', $WAITING, id) then return 'waiting', '', state and state[TOKEN] or 0, revocation end
  local due = call('ZSCORE', $SCHEDULED, id)
  local how = due and (state and state[UNKNOWN_UNTIL] and 'missing' or 'scheduled') or is_blocked(id, message, state) and 'blocked' or 'ready'
  return how, due or '', state and state[TOKEN] or 0, revocation
end
for i = 2, #ARGV do
  local message = call('HGET', $MESSAGES, ARGV[i])
  if message then
    local state = load(ARGV[i])
    local how, detail, token, revocation = situation_of(ARGV[i], message, state)
    found[i - 1] = { ARGV[i], message, state or false, how, detail, token, revocation or false }
  else
    found[i - 1] = false
  end
end
return found
