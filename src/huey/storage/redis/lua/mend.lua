-- After keys were set aside: put tasks that stand in no place any more where they belong.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""
-- Returns how many tasks that were
local placed = {}
local function note(members, from)
  for _, member in ipairs(members) do placed[string.sub(member, from or 1)] = true end
end
-- Lists and workers that are known, and are in no index any more, come into it again.
for _, name in ipairs(call('HKEYS', P .. 'l')) do
  local priority = tonumber(name) or 0
  if priority ~= 0 and call('EXISTS', P .. 'q:' .. name) == 1 then call('ZADD', P .. 'p', -priority, name) end
end
for _, worker in ipairs(call('HKEYS', P .. 'w')) do
  if not lease_end(worker) then renew(worker, call('HGET', P .. 'w', worker), ARGV[2]) end
end
note(call('LRANGE', P .. 'q:0', 0, -1))
for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do note(call('LRANGE', P .. 'q:' .. name, 0, -1)) end
for _, key in ipairs({ 'z', 'u' }) do note(call('ZRANGE', P .. key, 0, -1), 35) end
note(call('ZRANGE', P .. 'lw', 0, -1), ID)
for _, key in ipairs({ 's', 'e:failed', 'e:cancelled', 'e:succeeded' }) do note(call('ZRANGE', P .. key, 0, -1)) end
for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do note(call('HKEYS', P .. 'h:' .. worker)) end

local found = 0
for _, id in ipairs(call('HKEYS', P .. 'm')) do
  if not placed[id] then
    found = found + 1
    local message, state = call('HGET', P .. 'm', id), load(id)
    local ended = state and state[FINISHED] and string.match(' failed cancelled succeeded ', ' (' .. state[STATE] .. ') ')
    local head = head_of(message)
    local due = state and state[DUE] or not state and (head[AFTER] and created_of(message) + head[AFTER] or head[ETA])
    if ended then
      call('ZADD', P .. 'e:' .. ended, as_place(tonumber(state[FINISHED])), id)
    elseif due and as_place(tonumber(due)) > now then
      call('ZADD', P .. 's', due, id)
      if state and state[PARKED] then note_missing(id, message, state) end
    else
      line_up(id, head[PRIORITY], state and state[PLACE] or first_place(message), state and state[CRASHES] or 0)
    end
  end
end
level_what_was_touched()
for _, name in ipairs(call('SMEMBERS', P .. 'dk')) do call('SMOVE', P .. 'dk', P .. 'dm', name) end
return found
