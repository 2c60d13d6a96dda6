-- Count one use in the window of now; it is refused when that is full.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: name  3: microseconds of a window  4: uses that are allowed
-- Returns 0, or microseconds until the next window
local began, used = last_window()
if not began or began < start then began, used = nil, 0 end
local is_full = used >= tonumber(ARGV[4])
call('HSET', P .. 'rt', name, text(began or start) .. ' ' .. text(used + 1))
if not began then call('ZADD', P .. 'rx', text(start + length), name) end
return is_full and start + length - now or 0
