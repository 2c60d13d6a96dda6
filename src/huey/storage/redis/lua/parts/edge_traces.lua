-- Edges of workflows. A child that waits is in WAITING with the number of its open parents. An edge ends once, in the script that ends its
-- parent; it is then in EDGES_ENDED if the parent's task is kept. Of edges to other queues of this server the script works with P changed.
-- An open edge, as its parent has it: prefix of the child's queue, child, position, kind.
-- A parent, as its child has it: position, kind, prefix of the parent's queue, parent.
-- What it gave: outcome, value or false, error or false, prefix and id of the task whose failure it was, or false.
local CHILD_QUEUE, CHILD, POSITION, KIND = 1, 2, 3, 4
local AT, HOW, PARENT_QUEUE, PARENT = 1, 2, 3, 4
local ended_parents = {}

local function has_edges()
  return call('EXISTS', $EDGES_FROM, $EDGES_TO, $ENDED_PARENTS) > 0
end

local function given_field(child, position)
  return child .. '\0' .. text(position)
end

-- A task of this queue has ended: its edges end when settle() is called. EDGES: as they were read, if they were.
local function end_edges(id, outcome, value, error_text, failed_queue, failed, edges)
  if not edges and call('HEXISTS', $EDGES_FROM, id) == 0 then return end
  local gave = { outcome, value or false, error_text or false, failed_queue or false, failed or false }
  ended_parents[#ended_parents + 1] = { P, id, gave, edges }
end

-- The task was gone, or never ran.
local function skip_edges(id)
  end_edges(id, 'skipped')
end

-- The end of a run: FAILED, or cancelled by its body.
local function fail_edges(id, error_text)
  end_edges(id, 'failed', nil, error_text, P, id)
end

-- Remove the values given to a task, and the edges to its children.
local function forget_edges(id)
  local parents = unpacked(call('HGET', $EDGES_TO, id))
  if parents then
    local fields = {}
    for i, parent in ipairs(parents) do fields[i] = given_field(id, parent[AT]) end
    in_parts('HDEL', $EDGES_GIVEN, fields, 4000)
    call('HDEL', $EDGES_TO, id)
  end
  call('HDEL', $EDGES_ENDED, id)
end

-- How many parents of a task have not ended.
local function open_parents(id)
  local open = 0
  for _, parent in ipairs(unpacked(call('HGET', $EDGES_TO, id)) or {}) do
    open = open + 1 - call('HEXISTS', $EDGES_GIVEN, given_field(id, parent[AT]))
  end
  return open
end
