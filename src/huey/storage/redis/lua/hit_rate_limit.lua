-- Count one hit in the present window.
-- ARGV    1: now or ""  2: name  3: microseconds of a window  4: hits that are allowed
-- Returns 0, or if the window is full microseconds until the next one
-- include: base rate_window
local began, used = last_window()
if not began or began < start then began, used = nil, 0 end
local is_full = used >= tonumber(ARGV[4])
call('HSET', $RATES, name, text(began or start) .. ' ' .. text(used + 1))
if not began then call('ZADD', $RATE_EXPIRIES, text(start + length), name) end
return is_full and start + length - now or 0
