-- Keep the locks of a process.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: holder  4: microseconds  5..: nonces of calls whose answer it never got: those are freed
-- Returns how many it holds
-- A server without room must not end locks: a script that has written may go on writing.
call('DEL', P .. 'none')
local own, lost = redis.sha1hex(ARGV[3]), {}
for i = 5, #ARGV do lost[ARGV[i]] = true end
local kept, ends = 0, text(lease_now + tonumber(ARGV[4]))
for _, member in ipairs(call('ZRANGEBYLEX', P .. 'lp', '[' .. own, '(' .. own .. '\255')) do
  local name = string.sub(member, 41)
  local lock = find_lock(name)
  if not lock then
    call('ZREM', P .. 'lp', member)
  elseif lost[lock[NONCE]] then
    free(name, lock)
  elseif is_live(lock) then
    lock[UNTIL], kept = ends, kept + 1
    save_lock(name, lock)
  end
end
return kept
