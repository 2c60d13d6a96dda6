-- Release a lock if it is still held under a token.
-- ARGV    1: now or ""  2: lease clock or ""  3: name  4: token
-- Returns 1 if it was, else 0
-- include: base locks
local lock = find_lock(ARGV[3])
if not lock or lock[LOCK] ~= tonumber(ARGV[4]) or not is_live(lock) then return 0 end
free(ARGV[3], lock)
return 1
