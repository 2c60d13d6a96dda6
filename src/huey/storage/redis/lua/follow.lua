-- Become a follower of events for a while, and see where they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: microseconds that the caller counts as a follower  3: position after which events are wanted, or ""
-- Returns the last position, then the events after that position
call('HSET', P .. 'c', 'followed', text(now + tonumber(ARGV[2])))
local found = { tonumber(call('GET', P .. 'en') or '0') or 0 }
if ARGV[3] ~= '' then
  for _, entry in ipairs(call('XRANGE', P .. 'ev', '(' .. ARGV[3] .. '-0', '+')) do found[#found + 1] = entry[2][4] or '' end
end
return found
