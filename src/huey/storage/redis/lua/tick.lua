-- Fire one tick of a periodic task, if its last one is older.
-- ARGV    1: now or ""  2: name  3: tick, microseconds  4: channel
--         5: number of events, then the events, then a group of one as parts/insert.lua says, or none
-- Returns 1 if it fired, else 0
-- include: base lanes events insert values constraints edge_traces insert_constrained
local last = call('HGET', $TICKS, ARGV[2])
if last and (tonumber(string.match(last, '^%S+') or '') or 0) >= tonumber(ARGV[3]) then return 0 end
call('HSET', $TICKS, ARGV[2], ARGV[3] .. ' ' .. text(now))
local events = tonumber(ARGV[5])
if ARGV[6 + events] then
  insert_constrained(6 + events, call('EXISTS', $REVOKED_UNHELD) == 1)
  flush_constrained()
end
publish_events(ARGV[4], 6, 5 + events)
return 1
