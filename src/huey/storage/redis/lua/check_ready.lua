-- Whether a turn would find a task. The wake lists of the lanes are filled or emptied, so that a BLPOP sent behind this returns or blocks.
-- ARGV    1: now or ""  2: lanes, as in turn.lua  3: "1" if a BLPOP follows
-- Returns 1 or 0; microseconds until the next scheduled task is due or a window ends, or ""
-- include: base
local lanes, ready, due = ARGV[2], false, false
if call('HGET', $CONTROL, 'paused') ~= '1' then
  if lanes ~= 'o' then ready = call('EXISTS', $SUSPECTS) == 1 end
  if lanes ~= 'u' and not ready then ready = call('EXISTS', $READY, $READY_RANKED, $PRIORITIES) > 0 end
  due = earliest($SCHEDULED, $AWAITED)
  if due and tonumber(due) <= now then ready = true end
end
for lane in string.gmatch(lanes, '.') do
  if ready then
    if ARGV[3] == '1' then wake(lane, 's') end
  else
    call('DEL', $WAKE .. lane)
  end
end
return { ready and 1 or 0, due and text(clamp_time(tonumber(due)) - now) or '' }
