-- Remove queued tasks without a trace.
-- ARGV    1: now or ""  2: "scheduled", or "ready", which includes blocked ones  3: how many at limit
-- Returns how many ids were removed; the caller repeats it until that is 0
-- include: base lanes stats constraints insert values missing edge_traces finishes edges
local limit, dropped = tonumber(ARGV[3]), 0

local function drop(id)
  dropped = dropped + 1
  local state, message = load(id), call('HGET', $MESSAGES, id)
  -- An ended task is in the queue only by mistake; it stays.
  if state and state[FINISHED] then return end
  if state then note_token(state[TOKEN]) end
  drop_traces(id)
  if message then
    local start = created_of(message)
    count_pending(start - start % 60000000, head_of(message)[NAME], -1)
    call('HDEL', $MESSAGES, id)
  end
  call('HDEL', $REVOKED, id)
  skip_edges(id)
  forget_edges(id)
  if call('HDEL', $RESERVATIONS, 'i' .. id) == 1 then call('ZREM', $RESERVATION_EXPIRIES, 'i' .. id) end
end

-- Drop the first members of a ranked set, whose ids begin at a position.
local function drop_from(key, id_at)
  for _, member in ipairs(call('ZRANGE', key, 0, limit - dropped - 1)) do
    call('ZREM', key, member)
    drop(string.sub(member, id_at))
  end
end

local function drop_from_list(name)
  while dropped < limit do
    local id = call('LPOP', $READY_LISTS .. name)
    if not id then return end
    drop(id)
  end
end

-- Drop scheduled tasks, except those that no worker could run so far.
local function drop_scheduled()
  local kept = 0
  while dropped < limit do
    local ids = call('ZRANGE', $SCHEDULED, kept, kept + limit - dropped - 1)
    if #ids == 0 then return end
    for _, id in ipairs(ids) do
      local state = load(id)
      if state and state[UNKNOWN_UNTIL] then
        kept = kept + 1
      else
        call('ZREM', $SCHEDULED, id)
        drop(id)
      end
    end
  end
end

local function drop_missing()
  for _, member in ipairs(call('ZRANGE', $MISSING, 0, limit - dropped - 1)) do
    local id = string.sub(member, $ID_IN_MEMBER)
    call('ZREM', $MISSING, member)
    if call('ZREM', $SCHEDULED, id) == 1 then drop(id) end
  end
  if call('EXISTS', $MISSING) == 0 then call('DEL', $MISSING_COUNTS) end
end

if ARGV[2] == 'scheduled' then
  drop_scheduled()
else
  drop_missing()
  -- These first, or dropping the ready ones would unblock them.
  drop_from($LIMIT_BLOCKED, $ID_IN_MEMBER)
  for _, key in ipairs({ $SUSPECTS, $READY_RANKED }) do
    if dropped < limit then drop_from(key, $ID_IN_RANK) end
  end
  for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do drop_from_list(name) end
  drop_from_list('0')
end
if has_edges() then settle() end
rebalance_touched()
return dropped
