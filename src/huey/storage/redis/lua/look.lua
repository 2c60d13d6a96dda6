-- Tasks as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns for each id: nil, or id, message, state or nil, how it is ("ready", "scheduled", "blocked", "missing", "running",
--         "ended"), due time or worker, token, mark or nil
local workers, found = call('ZRANGE', P .. 'wl', 0, -1), {}
local has_limits = call('EXISTS', P .. 'lw') == 1

local function waits(id, message, state)
  local constraints = has_limits and read_constraints(id)
  if not constraints or not constraints[LIMIT] then return false end
  return call('ZSCORE', P .. 'lw', gate_of(constraints) .. rank_of(id, message, state))
end

local function where(id, message, state)
  if state and state[FINISHED] then return 'ended', '', state[TOKEN], state[REVOKED] end
  local mark = call('HGET', P .. 'rv', id)
  for _, worker in ipairs(workers) do
    local token = call('HGET', P .. 'h:' .. worker, id)
    if token then return 'running', worker, tonumber(token) or 0, mark end
  end
  local due = call('ZSCORE', P .. 's', id)
  local how = due and (state and state[PARKED] and 'missing' or 'scheduled') or waits(id, message, state) and 'blocked' or 'ready'
  return how, due or '', state and state[TOKEN] or 0, mark
end
for i = 2, #ARGV do
  local message = call('HGET', P .. 'm', ARGV[i])
  if message then
    local state = load(ARGV[i])
    local how, detail, token, mark = where(ARGV[i], message, state)
    found[i - 1] = { ARGV[i], message, state or false, how, detail, token, mark or false }
  else
    found[i - 1] = false
  end
end
return found
