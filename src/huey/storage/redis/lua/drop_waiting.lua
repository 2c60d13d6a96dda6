-- Remove some tasks that wait, with no trace of them.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "scheduled" or "ready", which are also those that wait for a limit  3: most
-- Returns how many ids went; called again until that is 0
local most, gone = tonumber(ARGV[3]), 0

local function drop(id)
  gone = gone + 1
  local state, message = load(id), call('HGET', P .. 'm', id)
  -- What has ended stands there by mistake only.
  if state and state[FINISHED] then return end
  if state then note_token(state[TOKEN]) end
  forget(id)
  if message then
    local start = created_of(message)
    living(start - start % 60000000, head_of(message)[NAME], -1)
    call('HDEL', P .. 'm', id)
  end
  call('HDEL', P .. 'rv', id)
  if call('HDEL', P .. 'kp', 'i' .. id) == 1 then call('ZREM', P .. 'kx', 'i' .. id) end
end

-- From a set, its first ones; an id stands behind so many characters.
local function drop_from(key, before)
  for _, member in ipairs(call('ZRANGE', P .. key, 0, most - gone - 1)) do
    call('ZREM', P .. key, member)
    drop(string.sub(member, before + 1))
  end
end

local function drop_from_list(name)
  while gone < most do
    local id = call('LPOP', P .. 'q:' .. name)
    if not id then return end
    drop(id)
  end
end

-- All that are scheduled, but for those that wait for a worker that can run them.
local function drop_scheduled()
  local kept = 0
  while gone < most do
    local ids = call('ZRANGE', P .. 's', kept, kept + most - gone - 1)
    if #ids == 0 then return end
    for _, id in ipairs(ids) do
      local state = load(id)
      if state and state[PARKED] then
        kept = kept + 1
      else
        call('ZREM', P .. 's', id)
        drop(id)
      end
    end
  end
end

local function drop_missing_ones()
  for _, member in ipairs(call('ZRANGE', P .. 'mt', 0, most - gone - 1)) do
    local id = string.sub(member, 75)
    call('ZREM', P .. 'mt', member)
    if call('ZREM', P .. 's', id) == 1 then drop(id) end
  end
  if call('EXISTS', P .. 'mt') == 0 then call('DEL', P .. 'mn') end
end

if ARGV[2] == 'scheduled' then
  drop_scheduled()
else
  drop_missing_ones()
  -- First, or those that are ready now would let them in.
  drop_from('lw', ID - 1)
  for _, lane in ipairs({ 'u', 'z' }) do
    if gone < most then drop_from(lane, 34) end
  end
  for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do drop_from_list(name) end
  drop_from_list('0')
end
level_what_was_touched()
return gone
