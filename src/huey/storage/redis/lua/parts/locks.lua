-- Reading and writing locks.
-- ARGV    2: lease clock or ""

-- Fields of a lock. RUN: token of the holding run, 0 for a process. A run holds it while WORKER holds the task with that token and has a
-- lease; a process until UNTIL. NONCE: of the call that acquired it; the same call gets the same answer. LOCK_EXPIRY: its own end, or ''.
local LOCK, HOLDER, RUN, WORKER, UNTIL, NONCE, LOCK_EXPIRY = 1, 2, 3, 4, 5, 6, 7
local lease_now = tonumber(ARGV[2]) or now

-- A packed lock; nil if it cannot be read: then it is free.
local function parse_lock(packed)
  local lock = unpacked(packed)
  if lock and is_number(lock[LOCK]) then
    for _, i in ipairs({ HOLDER, RUN, WORKER, UNTIL, NONCE, LOCK_EXPIRY }) do
      if type(lock[i]) ~= 'string' then return nil end
    end
    return lock
  end
end

local function find_lock(name)
  return parse_lock(call('HGET', $LOCKS, name))
end

local function is_live(lock)
  if lock[LOCK_EXPIRY] ~= '' and (tonumber(lock[LOCK_EXPIRY]) or 0) <= lease_now then return false end
  if lock[RUN] == '0' then return (tonumber(lock[UNTIL]) or 0) > lease_now end
  if call('HGET', $LEASES_OF .. lock[WORKER], lock[HOLDER]) ~= lock[RUN] then return false end
  local ends = call('ZSCORE', $WORKER_LEASES, lock[WORKER])
  return ends and tonumber(ends) > lease_now
end

-- A member of PROCESS_LOCKS: 40 digits of the holder, and the lock's name.
local function of_holder(holder, name)
  return redis.sha1hex(holder) .. name
end

local function free(name, lock)
  call('HDEL', $LOCKS, name)
  if lock[RUN] == '0' then call('ZREM', $PROCESS_LOCKS, of_holder(lock[HOLDER], name)) end
end

local function save_lock(name, lock)
  call('HSET', $LOCKS, name, cmsgpack.pack(lock))
end
