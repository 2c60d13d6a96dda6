-- Small values by kind and key.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- A value stands behind 16 digits: when it goes, or 0 for never. How many go at one time is counted (xn), and the times are in order (x).
local function expiry_of(value)
  return tonumber(string.sub(value, 1, 16)) or 0
end

-- When something goes that is kept for some microseconds; "": never, which is 0.
local function expiry_after(ttl)
  return ttl == '' and 0 or math.max(1, math.min(now + tonumber(ttl), LAST))
end

local function is_past(value)
  local expires = expiry_of(value)
  return expires > 0 and expires <= now
end

local function count_expiry(kind, expires, change)
  if expires == 0 then return end
  local field = text(expires)
  local left = call('HINCRBY', P .. 'xn:' .. kind, field, change)
  if left == change then
    call('ZADD', P .. 'x:' .. kind, field, field)
  elseif left <= 0 then
    call('HDEL', P .. 'xn:' .. kind, field)
    call('ZREM', P .. 'x:' .. kind, field)
  end
end

-- These values go, or are replaced.
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

-- Store keys and values, given in turns; all go at one time (0: never).
local function store_values(kind, keys, fields, expires)
  local hash = P .. 'v:' .. kind
  if call('EXISTS', hash) == 1 then
    for from = 1, #keys, 1000 do uncount(kind, call('HMGET', hash, unpack(keys, from, math.min(from + 999, #keys)))) end
  end
  in_parts('HSET', hash, fields, 2000)
  count_expiry(kind, expires, #keys)
end

local function forget_values(kind, keys)
  local hash = P .. 'v:' .. kind
  for from = 1, #keys, 1000 do
    local to = math.min(from + 999, #keys)
    uncount(kind, call('HMGET', hash, unpack(keys, from, to)))
    call('HDEL', hash, unpack(keys, from, to))
  end
end

-- Tell who waits for results of these ids which are there.
local function announce(ids)
  if call('EXISTS', P .. 'wt') == 0 then return end
  for _, id in ipairs(ids) do
    local waiters = call('HGET', P .. 'wt', id)
    if waiters then
      for waiter in string.gmatch(waiters, '%S+') do
        call('RPUSH', P .. 'wk:' .. waiter, id)
        call('PEXPIRE', P .. 'wk:' .. waiter, 60000)
      end
      call('HDEL', P .. 'wt', id)
      call('ZREM', P .. 'wx', id)
    end
  end
end
