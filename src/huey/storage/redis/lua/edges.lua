-- The edges from and to some tasks.
-- ARGV    1: now or ""  2..: ids
-- Returns for each edge: prefix and id of the parent, prefix and id of the child, kind, position, outcome or false
-- include: base
local found, is_asked, home = {}, {}, P
for i = 2, #ARGV do is_asked[ARGV[i]] = true end

-- Return whether the child is still held, and the outcome of an edge to it.
local function outcome_of(prefix, child, position)
  P = prefix
  local is_held = call('HEXISTS', $EDGES_TO, child) == 1
  local gave = unpacked(call('HGET', $EDGES_GIVEN, child .. '\0' .. text(position)))
  P = home
  return is_held, gave and gave[1] or false
end

for i = 2, #ARGV do
  local id = ARGV[i]
  for _, parent in ipairs(unpacked(call('HGET', $EDGES_TO, id)) or {}) do
    local _, outcome = outcome_of(P, id, parent[1])
    found[#found + 1] = { parent[3], parent[4], P, id, parent[2], text(parent[1]), outcome }
  end
  for _, key in ipairs({ $EDGES_FROM, $EDGES_ENDED }) do
    for _, edge in ipairs(unpacked(call('HGET', key, id)) or {}) do
      -- Otherwise it was found with the child.
      if edge[1] ~= P or not is_asked[edge[2]] then
        local is_held, outcome = outcome_of(edge[1], edge[2], edge[3])
        if is_held then found[#found + 1] = { P, id, edge[1], edge[2], edge[4], text(edge[3]), outcome } end
      end
    end
  end
end
return found
