-- Tasks as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns for each id: nil, or id, message, state or nil, how it is ("ready", "scheduled", "running", "ended"), due time or worker, token,
--         mark or nil
local workers, found = call('ZRANGE', P .. 'wl', 0, -1), {}
local function where(id, state)
  if state and state[FINISHED] then return 'ended', '', state[TOKEN], state[REVOKED] end
  local mark = call('HGET', P .. 'rv', id)
  for _, worker in ipairs(workers) do
    local token = call('HGET', P .. 'h:' .. worker, id)
    if token then return 'running', worker, tonumber(token), mark end
  end
  local due = call('ZSCORE', P .. 's', id)
  return due and 'scheduled' or 'ready', due or '', state and state[TOKEN] or 0, mark
end
for i = 2, #ARGV do
  local message = call('HGET', P .. 'm', ARGV[i])
  if message then
    local state = load(ARGV[i])
    local how, detail, token, mark = where(ARGV[i], state)
    found[i - 1] = { ARGV[i], message, state or false, how, detail, token, mark or false }
  else
    found[i - 1] = false
  end
end
return found
