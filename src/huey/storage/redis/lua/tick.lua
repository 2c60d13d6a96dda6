-- Fire one tick of a periodic task, if its last one is older.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: name  3: tick, microseconds  4: channel
--         5: number of events, then the events, then a group of one as insert.lua says, or none
-- Returns 1 if it fired, else 0
local last = call('HGET', P .. 'tk', ARGV[2])
if last and (tonumber(string.match(last, '^%S+') or '') or 0) >= tonumber(ARGV[3]) then return 0 end
call('HSET', P .. 'tk', ARGV[2], ARGV[3] .. ' ' .. text(now))
local events = tonumber(ARGV[5])
if ARGV[6 + events] then
  consider(6 + events, call('EXISTS', P .. 'ru') == 1)
  settle_in()
end
tell(ARGV[4], 6, 5 + events)
return 1
