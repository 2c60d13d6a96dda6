-- Where ready tasks wait: one list for each priority in use, and beside it what cannot stand at a list's end.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
local function lane_key(priority)
  return P .. 'q:' .. text(priority)
end

-- Bytes decide, not the server's locale.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local one, other = string.byte(a, i), string.byte(b, i)
    if one ~= other then return one < other end
  end
  return #a < #b
end

-- Sorts by priority, place and id in a set that is ordered by bytes. 2^52: a double has to tell two priorities apart on both sides of it.
local function rank(priority, place, id)
  return string.format('%017.0f%017.0f', 4503599627370496 - priority, as_place(place)) .. id
end

-- The rank of a task that is held, at its place.
local function rank_of(id, message, state)
  return rank(head_of(message)[PRIORITY], state and state[PLACE] or first_place(message), id)
end

-- Put ids, in order and of one place, at a list's end, or beside it when the list ends with what comes after them.
local function push(priority, place, ids)
  if #ids == 0 then return end
  local key, name = lane_key(priority), text(priority)
  -- Also when that list is empty by now: then it is only more cautious than it need be.
  local last = call('HGET', P .. 'l', name)
  if last then
    -- One that cannot be read may be anything.
    local end_place = tonumber(string.sub(last, 1, 17)) or LAST
    if place < end_place or (place == end_place and precedes(ids[1], string.sub(last, 18))) then
      local beside = {}
      for i, id in ipairs(ids) do
        beside[2 * i - 1], beside[2 * i] = 0, rank(priority, place, id)
      end
      in_parts('ZADD', P .. 'z', beside, 4000)
      return
    end
  end
  if priority ~= 0 then call('ZADD', P .. 'p', -priority, name) end
  in_parts('RPUSH', key, ids, 4000)
  call('HSET', P .. 'l', name, string.format('%017.0f', place) .. ids[#ids])
end

-- Let a task wait at its place, for any worker or, when it is a suspect, for those that take suspects.
local function queue(id, priority, place, crashes)
  if crashes > 0 then
    call('ZADD', P .. 'u', 0, rank(priority, place, id))
    wake('u', 'r')
  else
    push(priority, place, { id })
    wake('o', 'r')
  end
end
