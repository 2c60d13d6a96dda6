-- Small values by kind and key.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
local function is_past(kind, key)
  local expires = call('ZSCORE', P .. 'x:' .. kind, key)
  return expires and tonumber(expires) <= now
end

-- Wake who waits for results of these ids.
local function announce(ids)
  if call('EXISTS', P .. 'wt') == 0 then return end
  for _, id in ipairs(ids) do
    local waiters = call('HGET', P .. 'wt', id)
    if waiters then
      for waiter in string.gmatch(waiters, '%S+') do
        call('RPUSH', P .. 'wk:' .. waiter, '1')
        call('PEXPIRE', P .. 'wk:' .. waiter, 60000)
      end
      call('HDEL', P .. 'wt', id)
      call('ZREM', P .. 'wx', id)
    end
  end
end
