-- Values by kind and key.

-- A stored value begins with 16 digits: when it expires, 0 for never. Such times are kept in order, with the number of values of each.
local function expiry_of(value)
  return tonumber(string.sub(value, 1, $VALUE_IN_STAMPED - 1)) or 0
end

-- When a value expires that is kept for TTL microseconds; "": never, which is 0.
local function expiry_after(ttl)
  return ttl == '' and 0 or math.max(1, math.min(now + tonumber(ttl), LAST))
end

-- When the result of a task expires that is kept for a time of its own, if it would expire at EXPIRES by itself.
local function later_expiry(expires, until_then)
  return expires > 0 and math.min(math.max(expires, until_then + $KEPT_RESULT), LAST) or 0
end

local function stamp_of(expires)
  return string.format('%016.0f', expires)
end

local function is_past(value)
  local expires = expiry_of(value)
  return expires > 0 and expires <= now
end

local function count_expiry(kind, expires, change)
  if expires == 0 then return end
  local field = text(expires)
  local left = call('HINCRBY', $VALUE_EXPIRY_COUNTS .. kind, field, change)
  if left == change then
    call('ZADD', $VALUE_EXPIRIES .. kind, field, field)
  elseif left <= 0 then
    call('HDEL', $VALUE_EXPIRY_COUNTS .. kind, field)
    call('ZREM', $VALUE_EXPIRIES .. kind, field)
  end
end

-- Call this before these values are removed or replaced.
local function uncount(kind, values)
  local last, how_many = 0, 0
  for i = 1, #values do
    if values[i] then
      local expires = expiry_of(values[i])
      if expires ~= last then
        if how_many > 0 then count_expiry(kind, last, -how_many) end
        last, how_many = expires, 0
      end
      how_many = how_many + 1
    end
  end
  if how_many > 0 then count_expiry(kind, last, -how_many) end
end

-- Store FIELDS, keys and stamped values in turns; all expire at one time (0: never).
local function store_values(kind, keys, fields, expires)
  local hash = $VALUES .. kind
  if call('EXISTS', hash) == 1 then
    for from = 1, #keys, 1000 do uncount(kind, call('HMGET', hash, unpack(keys, from, math.min(from + 999, #keys)))) end
  end
  in_parts('HSET', hash, fields, 2000)
  count_expiry(kind, expires, #keys)
end

local function remove_values(kind, keys)
  local hash = $VALUES .. kind
  for from = 1, #keys, 1000 do
    local to = math.min(from + 999, #keys)
    uncount(kind, call('HMGET', hash, unpack(keys, from, to)))
    call('HDEL', hash, unpack(keys, from, to))
  end
end

-- Results of these ids are stored: put the ids on the lists of the clients that wait for them.
local function notify_waiters(ids)
  if call('EXISTS', $WAITERS) == 0 then return end
  for _, id in ipairs(ids) do
    local waiters = call('HGET', $WAITERS, id)
    if waiters then
      for waiter in string.gmatch(waiters, '%S+') do
        call('RPUSH', $ARRIVED .. waiter, id)
        call('PEXPIRE', $ARRIVED .. waiter, 60000)
      end
      call('HDEL', $WAITERS, id)
      call('ZREM', $WAITER_EXPIRIES, id)
    end
  end
end
