-- List some ids of one kind.
-- ARGV    1: now or ""  2: "suspect", "ready", "scheduled", "running", "blocked", "waiting", "kept", or a final state  3: from  4: to, in each key
-- Returns the ids; of "ready" so many of each lane, unordered
-- include: base
local kind, from, to, found = ARGV[2], ARGV[3], ARGV[4], {}
local function add(ids, is_ranked)
  for _, id in ipairs(ids) do found[#found + 1] = is_ranked and string.sub(id, $ID_IN_RANK) or id end
end
if kind == 'suspect' then
  add(call('ZRANGE', $SUSPECTS, from, to), true)
elseif kind == 'ready' then
  add(call('LRANGE', $READY, from, to))
  for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do add(call('LRANGE', $READY_LISTS .. name, from, to)) end
  add(call('ZRANGE', $READY_RANKED, from, to), true)
elseif kind == 'blocked' then
  for _, key in ipairs({ $LIMIT_BLOCKED, $MISSING }) do
    for _, member in ipairs(call('ZRANGE', key, from, to)) do found[#found + 1] = string.sub(member, $ID_IN_MEMBER) end
  end
elseif kind == 'waiting' then
  add(call('ZRANGE', $WAITING, from, to))
elseif kind == 'scheduled' then
  add(call('ZRANGE', $SCHEDULED, from, to))
elseif kind == 'running' then
  if from == '0' then
    for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do add(call('HKEYS', $LEASES_OF .. worker)) end
  end
else
  add(call('ZRANGE', $ENDED .. kind, from, to))
end
return found
