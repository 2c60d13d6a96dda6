-- Count as a follower of events for a while, and read them.
-- ARGV    1: now or ""  2: microseconds that the caller counts as a follower  3: position after which events are wanted, or ""
-- Returns the last position, then the events after that position
-- include: base
call('HSET', $CONTROL, 'followed', text(now + tonumber(ARGV[2])))
local found = { tonumber(call('GET', $EVENT_POSITION) or '0') or 0 }
if ARGV[3] ~= '' then
  for _, entry in ipairs(call('XRANGE', $EVENTS, '(' .. ARGV[3] .. '-0', '+')) do found[#found + 1] = entry[2][4] or '' end
end
return found
