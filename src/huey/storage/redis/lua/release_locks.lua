-- Release locks, whatever holds them.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: "1" for all, else ""  4..: names
-- Returns the names of those that were held
-- include: base locks
local held = {}
for _, name in ipairs(ARGV[3] == '1' and call('HKEYS', $LOCKS) or { unpack(ARGV, 4) }) do
  local lock = find_lock(name)
  if lock then
    if is_live(lock) then held[#held + 1] = name end
    free(name, lock)
  else
    call('HDEL', $LOCKS, name)
  end
end
return held
