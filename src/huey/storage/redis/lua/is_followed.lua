-- Whether events have a follower or subscriber.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: channel
-- Returns 1 or 0
-- include: base events
return is_followed(ARGV[2]) and 1 or 0
