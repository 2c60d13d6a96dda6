-- Read the holders of locks.
-- ARGV    1: now or ""  2: lease clock or ""  3: "1" for all, else ""  4..: names
-- Returns for each that is held: name, token, holder and token of its run (0: a process)
-- include: base locks
local held = {}
for _, name in ipairs(ARGV[3] == '1' and call('HKEYS', $LOCKS) or { unpack(ARGV, 4) }) do
  local lock = find_lock(name)
  if lock and is_live(lock) then held[#held + 1] = { name, lock[LOCK], lock[HOLDER], lock[RUN] } end
end
return held
