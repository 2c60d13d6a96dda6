-- Read the hits in the present window.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: name  3: microseconds of a window
-- Returns their number
-- include: base rate_window
local began, used = last_window()
return began and began >= start and used or 0
