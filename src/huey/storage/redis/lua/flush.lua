-- Remove everything of this queue except its workers.
-- include: base lanes stats values constraints insert missing edge_traces finishes edges
-- What waits in other queues for tasks of this one.
local children = {}
for _, packed in ipairs(call('HVALS', $EDGES_FROM)) do
  for _, edge in ipairs(unpacked(packed) or {}) do
    if edge[CHILD_QUEUE] ~= P then children[#children + 1] = edge end
  end
end
-- A worker may still hold a lease of what is removed here: ids that come again begin above its token.
local position = '0'
repeat
  local found = call('HSCAN', $STATES, position, 'COUNT', 1000)
  position = found[1]
  for i = 2, #found[2], 2 do note_token(parse_state(found[2][i])[TOKEN]) end
until position == '0'
for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do
  for _, token in ipairs(call('HVALS', $LEASES_OF .. worker)) do note_token(tonumber(token) or 0) end
end

local function drop(key) call('UNLINK', key) end
for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do drop($READY_LISTS .. name) end
for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do drop($LEASES_OF .. worker) end
for _, kind in ipairs(call('SMEMBERS', $VALUE_KINDS)) do
  for _, family in ipairs({ $VALUES, $VALUE_EXPIRIES, $VALUE_EXPIRY_COUNTS }) do drop(family .. kind) end
end
for _, index in ipairs({ $MINUTES, $HOURS }) do
  for _, start in ipairs(call('ZRANGE', index, 0, -1)) do drop(index .. ':' .. start) end
  drop(index)
end
for _, set_aside in ipairs({ $DAMAGED_KEYS, $REPAIRED_KEYS }) do
  for _, name in ipairs(call('SMEMBERS', set_aside)) do drop($DAMAGED .. name) end
  drop(set_aside)
end
for _, key in ipairs({
  $MESSAGES, $STATES, $READY, $LIST_ENDS, $PRIORITIES, $READY_RANKED, $SUSPECTS, $SCHEDULED, $MISSING, $MISSING_COUNTS,
  $ENDED_FAILED, $ENDED_CANCELLED, $ENDED_SUCCEEDED, $ENDED_KEPT, $PENDING, $TICKS, $CONTROL, $CURSORS, $EVENTS, $WAKE_OTHERS, $WAKE_SUSPECTS,
  $REVOKED, $REVOKED_UNHELD, $REVOKED_UNHELD_EXPIRIES, $REVOKED_NAMES, $RESULTS, $RESULT_EXPIRIES, $RESULT_EXPIRY_COUNTS, $VALUE_KINDS,
  $CONSTRAINTS, $UNIQUE_KEYS, $RESERVATIONS, $RESERVATION_EXPIRIES, $LIMIT_BLOCKED, $LIMIT_READY, $LIMIT_RUNNING, $WINDOWS, $AWAITED,
  $LOCKS, $PROCESS_LOCKS, $RATES, $RATE_EXPIRIES, $WAITING, $EDGES_FROM, $EDGES_TO, $EDGES_GIVEN, $EDGES_ENDED, $ENDED_PARENTS,
}) do
  drop(key)
end
local ends = {}
for i, edge in ipairs(children) do ends[2 * i - 1], ends[2 * i] = edge, { 'skipped', false, false, false, false } end
end_all_edges(ends)
while #ended_parents > 0 do settle() end
