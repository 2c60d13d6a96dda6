-- The lanes of ready tasks: a list for each priority in use, and a ranked set for tasks that cannot be appended to their list.
local function lane_key(priority)
  return $READY_LISTS .. text(priority)
end

-- Compare by bytes, not by the server's locale.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local one, other = string.byte(a, i), string.byte(b, i)
    if one ~= other then return one < other end
  end
  return #a < #b
end

-- Sorts by priority, ready_at and id in a set that is ordered by bytes. 2^52: a double is exact for integers on both sides of it.
local function rank(priority, ready_at, id)
  return string.format('%017.0f%017.0f', 4503599627370496 - priority, clamp_time(ready_at)) .. id
end

-- The rank of a held task.
local function rank_of(id, message, state)
  return rank(head_of(message)[PRIORITY], state and state[READY_AT] or first_ready_at(message), id)
end

-- Append sorted ids with one ready_at to their list; rank them beside it if the list ends with a task that comes after them.
local function append_ready(priority, ready_at, ids)
  if #ids == 0 then return end
  local key, name = lane_key(priority), text(priority)
  -- The list may be empty by now; then this is just more cautious than necessary.
  local last = call('HGET', $LIST_ENDS, name)
  if last then
    -- An unreadable end may stand for any time.
    local end_ready_at = tonumber(string.sub(last, 1, 17)) or LAST
    if ready_at < end_ready_at or (ready_at == end_ready_at and precedes(ids[1], string.sub(last, 18))) then
      local members = {}
      for i, id in ipairs(ids) do
        members[2 * i - 1], members[2 * i] = 0, rank(priority, ready_at, id)
      end
      in_parts('ZADD', $READY_RANKED, members, 4000)
      return
    end
  end
  if priority ~= 0 then call('ZADD', $PRIORITIES, -priority, name) end
  in_parts('RPUSH', key, ids, 4000)
  call('HSET', $LIST_ENDS, name, string.format('%017.0f', ready_at) .. ids[#ids])
end

-- Make a task ready at its ready_at: in its lane or, if it is a suspect, for the workers that take suspects.
local function add_ready(id, priority, ready_at, solo_crashes)
  if solo_crashes > 0 then
    call('ZADD', $SUSPECTS, 0, rank(priority, ready_at, id))
    wake('u', 'r')
  else
    append_ready(priority, ready_at, { id })
    wake('o', 'r')
  end
end
