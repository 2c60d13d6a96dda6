-- After keys were set aside, restore tasks that are no longer in any key.
-- ARGV    1: now or ""  2: lease clock or ""
-- Returns the number of those tasks
-- include: base worker_leases lanes constraints missing edge_traces
local placed = {}
local function note(members, from)
  for _, member in ipairs(members) do placed[string.sub(member, from or 1)] = true end
end

-- Restore the indexes of lists and workers.
for _, name in ipairs(call('HKEYS', $LIST_ENDS)) do
  local priority = tonumber(name) or 0
  if priority ~= 0 and call('EXISTS', $READY_LISTS .. name) == 1 then call('ZADD', $PRIORITIES, -priority, name) end
end
for _, worker in ipairs(call('HKEYS', $WORKERS)) do
  if not lease_end(worker) then renew(worker, call('HGET', $WORKERS, worker), ARGV[2]) end
end
note(call('LRANGE', $READY, 0, -1))
for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do note(call('LRANGE', $READY_LISTS .. name, 0, -1)) end
for _, key in ipairs({ $READY_RANKED, $SUSPECTS }) do note(call('ZRANGE', key, 0, -1), $ID_IN_RANK) end
note(call('ZRANGE', $LIMIT_BLOCKED, 0, -1), $ID_IN_MEMBER)
for _, key in ipairs({ $WAITING, $SCHEDULED, $ENDED_FAILED, $ENDED_CANCELLED, $ENDED_SUCCEEDED, $ENDED_KEPT }) do note(call('ZRANGE', key, 0, -1)) end
for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do note(call('HKEYS', $LEASES_OF .. worker)) end

local found = 0
for _, id in ipairs(call('HKEYS', $MESSAGES)) do
  if not placed[id] then
    found = found + 1
    local message, state = call('HGET', $MESSAGES, id), load(id)
    local ended = state and state[FINISHED] and string.match(' failed cancelled succeeded ', ' (' .. state[STATE] .. ') ')
    local head = head_of(message)
    local due = state and state[DUE] or not state and (head[AFTER] and created_of(message) + head[AFTER] or head[ETA])
    if ended then
      local is_kept = ended == 'succeeded' and state[DUE]
      call('ZADD', ended_key(state), clamp_time(tonumber(is_kept or state[FINISHED])), id)
    elseif open_parents(id) > 0 then
      call('ZADD', $WAITING, open_parents(id), id)
    elseif due and clamp_time(tonumber(due)) > now then
      call('ZADD', $SCHEDULED, due, id)
      if state and state[UNKNOWN_UNTIL] then add_missing(id, message, state) end
    else
      enter_queue(id, head[PRIORITY], state and state[READY_AT] or first_ready_at(message), state and state[SOLO_CRASHES] or 0)
    end
  end
end
rebalance_touched()
for _, name in ipairs(call('SMEMBERS', $DAMAGED_KEYS)) do call('SMOVE', $DAMAGED_KEYS, $REPAIRED_KEYS, name) end
return found
