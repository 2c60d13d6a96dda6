-- Remove what has expired, a bounded number of each kind.
-- ARGV    1: now or ""  2: lease clock or ""  3: how long ended tasks are kept  4: events  5: minutes  6: hours (all microseconds)
--         7: how many succeeded tasks are kept  8: and how long  9: how many of a kind at limit
-- Returns how many things were removed; the keys that were set aside and are not repaired yet; and ids of tasks that waited in vain
-- include: base lanes stats values locks constraints insert missing edge_traces finishes edges
local limit, removed = tonumber(ARGV[9]), 0
local function ago(i) return text(now - tonumber(ARGV[i])) end

local function expired(key, by, number)
  return call('ZRANGEBYSCORE', key, '-inf', by, 'LIMIT', 0, number)
end

-- Some fields and values of a hash, in turns, from where the last scan of it ended.
local function scan_part(key, how_many)
  local name = string.sub(key, #P + 1)
  local found = call('HSCAN', key, string.match(call('HGET', $CURSORS, name) or '', '^%d+$') or '0', 'COUNT', how_many)
  if found[1] == '0' then call('HDEL', $CURSORS, name) else call('HSET', $CURSORS, name, found[1]) end
  return found[2]
end

-- Remove the fields of a hash that are expired by an index of times.
local function drop_expired(index, hash)
  local over = expired(index, text(now), limit)
  if #over > 0 then
    call('HDEL', hash, unpack(over))
    call('ZREM', index, unpack(over))
  end
  return #over
end

local kinds = call('SMEMBERS', $VALUE_KINDS)
kinds[#kinds + 1] = 'result'
for _, kind in ipairs(kinds) do
  -- Some have expired: search a part of all values each time, from where the last scan ended.
  if #expired($VALUE_EXPIRIES .. kind, text(now), 1) > 0 then
    local past, found = {}, scan_part($VALUES .. kind, 4 * limit)
    for i = 1, #found, 2 do
      if #past < limit and is_past(found[i + 1]) then past[#past + 1] = found[i] end
    end
    remove_values(kind, past)
    removed = removed + #past
  end
end

removed = removed + drop_expired($REVOKED_UNHELD_EXPIRIES, $REVOKED_UNHELD)
local names = call('HGETALL', $REVOKED_NAMES)
for i = 1, #names, 2 do
  if not is_active(names[i + 1]) then
    call('HDEL', $REVOKED_NAMES, names[i])
    removed = removed + 1
  end
end

for _, entry in ipairs(call('XRANGE', $EVENTS, '-', '+', 'COUNT', limit)) do
  -- Each by its own time: the clock may have been set back in between.
  if (tonumber(entry[2][2]) or 0) <= tonumber(ago(4)) then
    call('XDEL', $EVENTS, entry[1])
    removed = removed + 1
  end
end
if call('EXISTS', $EVENTS) == 1 and call('XLEN', $EVENTS) == 0 then call('DEL', $EVENTS) end
if (tonumber(call('HGET', $CONTROL, 'followed') or tostring(now + 1)) or 0) <= now then call('HDEL', $CONTROL, 'followed') end

-- Remove rows that began by some time, after passing each to KEEP.
local function remove_rows(index, by, keep)
  local left = limit
  for _, start in ipairs(expired(index, by, limit)) do
    if left <= 0 then return end
    local key = index .. ':' .. start
    local rows = call('HGETALL', key)
    for i = 1, math.min(#rows, 2 * left), 2 do
      if tonumber(start) and #rows[i + 1] == 23 * 8 then keep(tonumber(start), rows[i], rows[i + 1]) end
      call('HDEL', key, rows[i])
      removed = removed + 1
    end
    if #rows <= 2 * left then call('ZREM', index, start) end
    left = left - #rows / 2
  end
end
remove_rows($MINUTES, ago(5), function(start, name, row) add_row($HOURS, start - start % 3600000000, name, row) end)
remove_rows($HOURS, ago(6), function() end)

local function remove_ended(key, ids)
  for _, id in ipairs(ids) do
    local state = load(id)
    if state then note_token(state[TOKEN]) end
    call('HDEL', $MESSAGES, id)
    call('HDEL', $STATES, id)
    forget_edges(id)
    call('ZREM', key, id)
  end
  removed = removed + #ids
end
for _, how in ipairs({ 'failed', 'cancelled' }) do remove_ended($ENDED .. how, expired($ENDED .. how, ago(3), limit)) end
local kept = $ENDED_SUCCEEDED
local beyond = call('ZCARD', kept) - tonumber(ARGV[7])
if beyond > 0 then remove_ended(kept, call('ZRANGE', kept, 0, math.min(beyond, limit) - 1)) end
remove_ended(kept, expired(kept, ago(8), limit))
remove_ended($ENDED_KEPT, expired($ENDED_KEPT, text(now), limit))

local ticks = call('HGETALL', $TICKS)
for i = 1, #ticks, 2 do
  if (tonumber(string.match(ticks[i + 1], '%S+$') or '') or 0) <= tonumber(ago(3)) then
    call('HDEL', $TICKS, ticks[i])
    removed = removed + 1
  end
end
drop_expired($WAITER_EXPIRIES, $WAITERS)
-- Sequences without an enqueue for a day. Their numbers are times.
local idle = expired($SEQUENCES, text(now - 86400000000), limit)
if #idle > 0 then
  call('HDEL', $SEQUENCE_ANSWERS, unpack(idle))
  call('ZREM', $SEQUENCES, unpack(idle))
end
removed = removed + drop_expired($RESERVATION_EXPIRIES, $RESERVATIONS) + drop_expired($RATE_EXPIRIES, $RATES)
-- Windows of rates that are over and for whose end no task waits, in a part of all each time.
if call('EXISTS', $WINDOWS) == 1 then
  local found = scan_part($WINDOWS, limit)
  for i = 1, #found, 2 do
    local _, ends = window_of(found[i])
    if (ends or 0) <= now and not call('ZSCORE', $AWAITED, found[i]) then
      call('HDEL', $WINDOWS, found[i])
      removed = removed + 1
    end
  end
end
-- Locks whose holders are gone, in a part of all each time.
if call('EXISTS', $LOCKS) == 1 then
  local found = scan_part($LOCKS, limit)
  for i = 1, #found, 2 do
    local lock = parse_lock(found[i + 1])
    if not lock or not is_live(lock) then
      if lock then free(found[i], lock) else call('HDEL', $LOCKS, found[i]) end
      removed = removed + 1
    end
  end
end
-- Edges that turns left over; and, in a part of all each time, tasks that wait for none that can still end.
local function waits_in_vain(id)
  for _, parent in ipairs(unpacked(call('HGET', $EDGES_TO, id)) or {}) do
    local is_open = call('HEXISTS', $EDGES_GIVEN, given_field(id, parent[AT])) == 0
    if is_open and in_queue(parent[PARENT_QUEUE], function(other)
      local state = load(other)
      local is_live = call('HEXISTS', $MESSAGES, other) == 1 and not (state and state[FINISHED])
      return is_live or call('HEXISTS', $ENDED_PARENTS, other) == 1
    end, parent[PARENT]) then return false end
  end
  return true
end
local orphans = {}
if call('EXISTS', $WAITING) == 1 or has_edges() then
  local found = call('ZRANGE', $WAITING, 0, -1)
  for _, id in ipairs(found) do
    local message = call('HGET', $MESSAGES, id)
    if not message then
      call('ZREM', $WAITING, id)
    elseif #orphans < limit and waits_in_vain(id) then
      call('ZREM', $WAITING, id)
      end_task(id, message, head_of(message)[NAME], load(id) or new_state(message), 'cancelled', 'orphaned')
      skip_edges(id)
      orphans[#orphans + 1] = id
    end
  end
  settle()
  rebalance_touched()
end
return { removed + #orphans, call('SMEMBERS', $DAMAGED_KEYS), orphans }
