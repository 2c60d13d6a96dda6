-- What the parents of a task gave it.
-- ARGV    1: now or ""  2: id  3: the position after which to begin  4: bytes that the values may weigh, without the last  5: how many at limit
-- Returns in one list, for each parent that has ended, in order: position, kind, outcome, its queue's prefix and its id, as one text, since
--         clients read texts one by one; its value or false (parts/edges.lua); and of a failure, prefix and id of the task whose failure
--         it was, and its error or false
-- include: base
local id, after, most, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local parents, found, size = unpacked(call('HGET', $EDGES_TO, id)) or {}, {}, 0
local count, is_in_order = 0, true
for i = 2, #parents do is_in_order = is_in_order and parents[i - 1][1] < parents[i][1] end
if not is_in_order then table.sort(parents, function(one, other) return one[1] < other[1] end) end

local function error_of(gave)
  if gave[3] or not gave[5] then return gave[3] end
  local home = P
  P = gave[4]
  local state = load(gave[5])
  P = home
  return state and state[ERROR]
end

local first, step = 1, 16
while parents[first] and parents[first][1] <= after do first = first + 1 end
while parents[first] and count < limit and size < most do
  local last, fields = math.min(first + step, first + limit - count, #parents + 1) - 1, {}
  for i = first, last do fields[i - first + 1] = id .. '\0' .. text(parents[i][1]) end
  for i, packed in ipairs(call('HMGET', $EDGES_GIVEN, unpack(fields))) do
    local parent, gave = parents[first + i - 1], unpacked(packed)
    if gave and size < most then
      local at = #found
      found[at + 1] = table.concat({ text(parent[1]), parent[2], gave[1], parent[3], parent[4] }, ' ')
      found[at + 2] = gave[2]
      if gave[1] == 'failed' then found[at + 3], found[at + 4], found[at + 5] = gave[4], gave[5], error_of(gave) or false end
      count, size = count + 1, size + #(gave[2] or '')
    end
  end
  first = last + 1
  -- As many as weigh a megabyte if they are like those before.
  step = math.max(16, math.floor(1048576 * count / math.max(size, 1)))
end
return found
