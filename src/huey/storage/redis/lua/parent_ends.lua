-- What the parents of a task gave it.
-- ARGV    1: now or ""  2: id  3: the position after which to begin  4: bytes that the values may weigh, without the last  5: how many at limit
-- Returns for each parent that has ended, in order: position, kind, its queue's prefix, its id, what it gave (parts/edges.lua), and the
--         error of the task whose failure it was, or false
-- include: base
local id, after, most, limit = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local parents, found, size, home = unpacked(call('HGET', $EDGES_TO, id)) or {}, {}, 0, P
table.sort(parents, function(one, other) return one[1] < other[1] end)
for _, parent in ipairs(parents) do
  if #found == limit or size >= most then break end
  local gave = parent[1] > after and unpacked(call('HGET', $EDGES_GIVEN, id .. '\0' .. text(parent[1])))
  if gave then
    local why = gave[3]
    if gave[1] == 'failed' and not why and gave[5] then
      P = gave[4]
      local state = load(gave[5])
      why, P = state and state[ERROR], home
    end
    found[#found + 1] = { text(parent[1]), parent[2], parent[3], parent[4], gave[1], gave[2], gave[4], gave[5], why or false }
    size = size + #(gave[2] or '')
  end
end
return found
