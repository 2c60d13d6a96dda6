-- Ids in one kind of place, some of them.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "suspect", "ready", "scheduled", "running", "blocked", or an end: "failed", ...  3: from  4: to, in each place
-- Returns the ids; of "ready" they come from each list and from beside them, unordered
local kind, from, to, found = ARGV[2], ARGV[3], ARGV[4], {}
local function add(ids, cut)
  for _, id in ipairs(ids) do found[#found + 1] = cut and string.sub(id, 35) or id end
end
if kind == 'suspect' then
  add(call('ZRANGE', P .. 'u', from, to), true)
elseif kind == 'ready' then
  add(call('LRANGE', P .. 'q:0', from, to))
  for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do add(call('LRANGE', P .. 'q:' .. name, from, to)) end
  add(call('ZRANGE', P .. 'z', from, to), true)
elseif kind == 'blocked' then
  for _, key in ipairs({ 'lw', 'mt' }) do
    for _, member in ipairs(call('ZRANGE', P .. key, from, to)) do found[#found + 1] = string.sub(member, 75) end
  end
elseif kind == 'scheduled' then
  add(call('ZRANGE', P .. 's', from, to))
elseif kind == 'running' then
  if from == '0' then
    for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do add(call('HKEYS', P .. 'h:' .. worker)) end
  end
else
  add(call('ZRANGE', P .. 'e:' .. kind, from, to))
end
return found
