-- Count one hit in the current window of a rate, or read its hits. The last window of each name is kept, "start used".
-- ARGV    1: now or ""  2: name  3: microseconds of a window  4: hits that are allowed, or "" to read only  5: "1" to forget what was read
-- Returns of a hit 0, or if the window is full microseconds until the next one; else the number of hits
-- include: base
local name, length = ARGV[2], tonumber(ARGV[3])
local start = now - math.fmod(now, length)
local began, used = string.match(call('HGET', $RATES, name) or '', '^(%S+) (%S+)$')
began, used = tonumber(began or ''), tonumber(used or '') or 0
if not began or began < start then began, used = nil, 0 end
if ARGV[4] == '' then
  if ARGV[5] == '1' then
    call('HDEL', $RATES, name)
    call('ZREM', $RATE_EXPIRIES, name)
  end
  return used
end
call('HSET', $RATES, name, text(began or start) .. ' ' .. text(used + 1))
if not began then call('ZADD', $RATE_EXPIRIES, text(start + length), name) end
return used >= tonumber(ARGV[4]) and start + length - now or 0
