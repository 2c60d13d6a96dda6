-- Acquire a free lock.
-- ARGV    1: now or ""  2: lease clock or ""  3: name  4: holder  5: token of its run, 0 for a process  6: microseconds that a process
--         holds it  7: nonce of this call  8: microseconds after which it is free in any case, or ""
-- Returns its token, or nil
-- include: base locks
local name, holder, run = ARGV[3], ARGV[4], ARGV[5]
local before, run_worker = find_lock(name), ''
if before and is_live(before) then return before[NONCE] == ARGV[7] and before[LOCK] end
if run ~= '0' then
  for _, worker in ipairs(call('ZRANGEBYSCORE', $WORKER_LEASES, '(' .. text(lease_now), '+inf')) do
    if call('HGET', $LEASES_OF .. worker, holder) == run then run_worker = worker end
  end
  if run_worker == '' then return false end
end
local lock = { call('INCR', $LOCK_TOKEN), holder, run, run_worker, text(lease_now + tonumber(ARGV[6])), ARGV[7], '' }
if ARGV[8] ~= '' then lock[LOCK_EXPIRY] = text(lease_now + tonumber(ARGV[8])) end
if before then free(name, before) end
save_lock(name, lock)
if run == '0' then call('ZADD', $PROCESS_LOCKS, 0, of_holder(holder, name)) end
return lock[LOCK]
