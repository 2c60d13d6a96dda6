-- Statistics: rows of 23 numbers by task name and minute; and pending tasks by the minute in which they were enqueued.
local ROW = '<' .. string.rep('d', 23)
local NOTHING = struct.pack(ROW, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
local ENQUEUED, SUCCEEDED, FAILED, RETRIED, CANCELLED, DURATION, LONGEST = 1, 2, 3, 4, 5, 6, 7
local BOUNDS = { 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9, 3e9, 1e10 }

-- Add a row to the one of its name and start. INDEX: MINUTES or HOURS.
local function add_row(index, start, name, packed)
  local key = index .. ':' .. text(start)
  local before = call('HGET', key, name)
  if before and #before == 23 * 8 then
    local sums, more = { struct.unpack(ROW, before) }, { struct.unpack(ROW, packed) }
    local longest = math.max(sums[LONGEST], more[LONGEST])
    for i = 1, 23 do sums[i] = sums[i] + more[i] end
    sums[LONGEST] = longest
    call('HSET', key, name, struct.pack(ROW, unpack(sums, 1, 23)))
  else
    call('HSET', key, name, packed)
    call('ZADD', index, start, text(start))
  end
end

-- Count one kind of end, and how long the runs took.
local function count(start, name, what, how_many, duration)
  local row = { struct.unpack(ROW, NOTHING) }
  row[what] = how_many
  if duration > 0 then
    local bucket = 1
    while bucket <= 15 and duration > BOUNDS[bucket] do bucket = bucket + 1 end
    row[DURATION], row[LONGEST], row[7 + bucket] = duration, duration, 1
  end
  add_row($MINUTES, start, name, struct.pack(ROW, unpack(row, 1, 23)))
end

-- Change the number of pending tasks of a name that were enqueued in a minute.
local function count_pending(start, name, change)
  local field = text(start) .. ':' .. name
  if call('HINCRBY', $PENDING, field, change) == 0 then call('HDEL', $PENDING, field) end
end

-- A task has ended: it is no longer pending, but still counts as enqueued.
local function count_end(message, name)
  local start = created_of(message)
  start = start - start % 60000000
  count_pending(start, name, -1)
  count(start, name, ENQUEUED, 1, 0)
end
