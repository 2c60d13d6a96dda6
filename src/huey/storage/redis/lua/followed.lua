-- Whether anybody follows events.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: channel
-- Returns 1 or 0
local by_reader, by_channel = is_followed(ARGV[2])
return (by_reader or by_channel) and 1 or 0
