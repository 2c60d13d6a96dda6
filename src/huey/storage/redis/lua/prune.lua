-- Remove things past their time, a bounded number of each kind.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: how long ended tasks are kept  4: events  5: minutes  6: hours (all microseconds)
--         7: how many succeeded tasks are kept  8: and how long  9: most of a kind
-- Returns how many went; names of keys that were set aside since mend.lua last saw to it
local most, gone = tonumber(ARGV[9]), 0
local function ago(i) return text(now - tonumber(ARGV[i])) end
local function late(key, by, limit)
  return call('ZRANGEBYSCORE', key, '-inf', by, 'LIMIT', 0, limit)
end
-- Some fields and values of a hash, in turns, from where the last look ended.
local function part_of(name, how_many)
  local found = call('HSCAN', P .. name, string.match(call('HGET', P .. 'sc', name) or '', '^%d+$') or '0', 'COUNT', how_many)
  if found[1] == '0' then call('HDEL', P .. 'sc', name) else call('HSET', P .. 'sc', name, found[1]) end
  return found[2]
end
-- What an index by time says is over goes from it and from its hash.
local function drop_late(index, hash)
  local over = late(P .. index, text(now), most)
  if #over > 0 then
    call('HDEL', P .. hash, unpack(over))
    call('ZREM', P .. index, unpack(over))
  end
  return #over
end

local kinds = call('SMEMBERS', P .. 'k')
kinds[#kinds + 1] = 'result'
for _, kind in ipairs(kinds) do
  -- Something has passed: look for it, a part of all values each time, from where the last look ended.
  if #late(P .. 'x:' .. kind, text(now), 1) > 0 then
    local past, found = {}, part_of('v:' .. kind, 4 * most)
    for i = 1, #found, 2 do
      if #past < most and is_past(found[i + 1]) then past[#past + 1] = found[i] end
    end
    forget_values(kind, past)
    gone = gone + #past
  end
end

gone = gone + drop_late('ux', 'ru')
local names = call('HGETALL', P .. 'rn')
for i = 1, #names, 2 do
  if not holds(names[i + 1]) then
    call('HDEL', P .. 'rn', names[i])
    gone = gone + 1
  end
end

for _, entry in ipairs(call('XRANGE', P .. 'ev', '-', '+', 'COUNT', most)) do
  -- Each by its own time: the clock may have been set back meanwhile.
  if (tonumber(entry[2][2]) or 0) <= tonumber(ago(4)) then
    call('XDEL', P .. 'ev', entry[1])
    gone = gone + 1
  end
end
if call('EXISTS', P .. 'ev') == 1 and call('XLEN', P .. 'ev') == 0 then call('DEL', P .. 'ev') end
if (tonumber(call('HGET', P .. 'c', 'followed') or tostring(now + 1)) or 0) <= now then call('HDEL', P .. 'c', 'followed') end

-- Rows of a span that began by some time: hand each to DO_IT, then remove it.
local function fold(span, by, do_it)
  local left = most
  for _, start in ipairs(late(P .. 'st' .. span, by, most)) do
    if left <= 0 then return end
    local key = P .. 'st' .. span .. ':' .. start
    local rows = call('HGETALL', key)
    for i = 1, math.min(#rows, 2 * left), 2 do
      if tonumber(start) and #rows[i + 1] == 23 * 8 then do_it(tonumber(start), rows[i], rows[i + 1]) end
      call('HDEL', key, rows[i])
      gone = gone + 1
    end
    if #rows <= 2 * left then call('ZREM', P .. 'st' .. span, start) end
    left = left - #rows / 2
  end
end
fold(60, ago(5), function(start, name, row) add_row(3600, start - start % 3600000000, name, row) end)
fold(3600, ago(6), function() end)

local function forget(key, ids)
  for _, id in ipairs(ids) do
    local state = load(id)
    if state then note_token(state[TOKEN]) end
    call('HDEL', P .. 'm', id)
    call('HDEL', P .. 'd', id)
    call('ZREM', key, id)
  end
  gone = gone + #ids
end
for _, how in ipairs({ 'failed', 'cancelled' }) do forget(P .. 'e:' .. how, late(P .. 'e:' .. how, ago(3), most)) end
local kept = P .. 'e:succeeded'
local beyond = call('ZCARD', kept) - tonumber(ARGV[7])
if beyond > 0 then forget(kept, call('ZRANGE', kept, 0, math.min(beyond, most) - 1)) end
forget(kept, late(kept, ago(8), most))

local ticks = call('HGETALL', P .. 'tk')
for i = 1, #ticks, 2 do
  if (tonumber(string.match(ticks[i + 1], '%S+$') or '') or 0) <= tonumber(ago(3)) then
    call('HDEL', P .. 'tk', ticks[i])
    gone = gone + 1
  end
end
drop_late('wx', 'wt')
-- Producers that have enqueued nothing for a day. Their numbers are times.
local idle = late(P .. 'pr', text(now - 86400000000), most)
if #idle > 0 then
  call('HDEL', P .. 'pa', unpack(idle))
  call('ZREM', P .. 'pr', unpack(idle))
end
-- What the clock held for tasks, and windows of rates.
gone = gone + drop_late('kx', 'kp') + drop_late('rx', 'rt')
-- Locks whose holders are gone: a part of all each time.
if call('EXISTS', P .. 'lk') == 1 then
  local found = part_of('lk', most)
  for i = 1, #found, 2 do
    local lock = as_lock(found[i + 1])
    if not lock or not is_live(lock) then
      if lock then free(found[i], lock) else call('HDEL', P .. 'lk', found[i]) end
      gone = gone + 1
    end
  end
end
return { gone, call('SMEMBERS', P .. 'dk') }
