-- Read the hits in the present window.
-- ARGV    1: now or ""  2: name  3: microseconds of a window  4: "1" to forget them
-- Returns their number
-- include: base rate_window
local began, used = last_window()
if ARGV[4] == '1' then
  call('HDEL', $RATES, name)
  call('ZREM', $RATE_EXPIRIES, name)
end
return began and began >= start and used or 0
