-- Locks by name.
-- KEYS    1: the queue's prefix
-- ARGV    2: lease clock or ""
-- Returns nothing; a verb's script follows
-- UNTIL: end of the lease of a process. A run's lock lasts while WORKER has the task with that token and its own lease holds. NONCE: of the
-- call that took it; sent again, it gets the same answer. ENDS: its own end, whoever holds it; '': none.
local LOCK, HOLDER, RUN, WORKER, UNTIL, NONCE, ENDS = 1, 2, 3, 4, 5, 6, 7
local lease_now = tonumber(ARGV[2]) or now

-- A lock as it was packed; nil for what cannot be read: nobody holds that.
local function as_lock(packed)
  local lock = unpacked(packed)
  if lock and is_number(lock[LOCK]) then
    for _, i in ipairs({ HOLDER, RUN, WORKER, UNTIL, NONCE, ENDS }) do
      if type(lock[i]) ~= 'string' then return nil end
    end
    return lock
  end
end

local function find_lock(name)
  return as_lock(call('HGET', P .. 'lk', name))
end

local function is_live(lock)
  if lock[ENDS] ~= '' and (tonumber(lock[ENDS]) or 0) <= lease_now then return false end
  if lock[RUN] == '0' then return (tonumber(lock[UNTIL]) or 0) > lease_now end
  if call('HGET', P .. 'h:' .. lock[WORKER], lock[HOLDER]) ~= lock[RUN] then return false end
  local ends = call('ZSCORE', P .. 'wl', lock[WORKER])
  return ends and tonumber(ends) > lease_now
end

-- Locks of processes by holder: 40 digits of who it is, and the lock's name.
local function of_holder(holder, name)
  return redis.sha1hex(holder) .. name
end

local function free(name, lock)
  call('HDEL', P .. 'lk', name)
  if lock[RUN] == '0' then call('ZREM', P .. 'lp', of_holder(lock[HOLDER], name)) end
end

local function save_lock(name, lock)
  call('HSET', P .. 'lk', name, cmsgpack.pack(lock))
end
