-- Renew the locks of a process.
-- ARGV    1: now or ""  2: lease clock or ""  3: holder  4: microseconds  5..: nonces of calls whose reply was lost: those are released
-- Returns how many it holds
-- include: base locks
-- A full server must not end locks: a script that has freed memory may continue to write.
call('DEL', $ABSENT)
local own, lost = redis.sha1hex(ARGV[3]), {}
for i = 5, #ARGV do lost[ARGV[i]] = true end
local held, ends = 0, text(lease_now + tonumber(ARGV[4]))
for _, member in ipairs(call('ZRANGEBYLEX', $PROCESS_LOCKS, '[' .. own, '(' .. own .. '\255')) do
  local name = string.sub(member, $RANK_IN_MEMBER)
  local lock = find_lock(name)
  if not lock then
    call('ZREM', $PROCESS_LOCKS, member)
  elseif lost[lock[NONCE]] then
    free(name, lock)
  elseif is_live(lock) then
    lock[UNTIL], held = ends, held + 1
    save_lock(name, lock)
  end
end
return held
