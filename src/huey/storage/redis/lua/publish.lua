-- Publish events.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: channel  3..: events
-- Returns 0
-- include: base events
publish_events(ARGV[2], 3, #ARGV)
return 0
