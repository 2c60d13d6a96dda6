-- Take a lock that nobody holds.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: name  4: holder  5: token of its run, 0 for a process  6: microseconds that a process
--         holds it  7: nonce of this call  8: microseconds after which nobody holds it any more, or ""
-- Returns its token, or nil
local name, holder, run = ARGV[3], ARGV[4], ARGV[5]
local before, keeper = find_lock(name), ''
if before and is_live(before) then return before[NONCE] == ARGV[7] and before[LOCK] end
if run ~= '0' then
  for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'wl', '(' .. text(lease_now), '+inf')) do
    if call('HGET', P .. 'h:' .. worker, holder) == run then keeper = worker end
  end
  if keeper == '' then return false end
end
local lock = { call('INCR', P .. 'ln'), holder, run, keeper, text(lease_now + tonumber(ARGV[6])), ARGV[7], '' }
if ARGV[8] ~= '' then lock[ENDS] = text(lease_now + tonumber(ARGV[8])) end
if before then free(name, before) end
save_lock(name, lock)
if run == '0' then call('ZADD', P .. 'lp', 0, of_holder(holder, name)) end
return lock[LOCK]
