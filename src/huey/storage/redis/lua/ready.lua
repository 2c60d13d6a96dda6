-- Whether a worker would find something. If so, or not, its wake lists are left so that a BLPOP sent with this returns at once, or waits.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lanes, as in turn.lua  3: "1" if a BLPOP follows
-- Returns 1 or 0; microseconds until the next scheduled task is due, or ""
local lanes, ready, due = ARGV[2], false, false
if call('HGET', P .. 'c', 'paused') ~= '1' then
  if lanes ~= 'o' then ready = call('EXISTS', P .. 'u') == 1 end
  if lanes ~= 'u' and not ready then ready = call('EXISTS', P .. 'q:0', P .. 'z', P .. 'p') > 0 end
  due = call('ZRANGE', P .. 's', 0, 0, 'WITHSCORES')[2]
  if due and tonumber(due) <= now then ready = true end
end
for lane in string.gmatch(lanes, '.') do
  if ready then
    if ARGV[3] == '1' then wake(lane, 's') end
  else
    call('DEL', P .. 'wake:' .. lane)
  end
end
return { ready and 1 or 0, due and text(as_place(tonumber(due)) - now) or '' }
