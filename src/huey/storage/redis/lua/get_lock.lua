-- Read the holder of a lock.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: name
-- Returns token, holder and token of its run (0: a process), or nil
-- include: base locks
local lock = find_lock(ARGV[3])
return lock and is_live(lock) and { lock[LOCK], lock[HOLDER], lock[RUN] }
