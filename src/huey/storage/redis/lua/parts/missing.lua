-- Tasks that no worker could run so far: scheduled for the end of their time, and listed by what is missing.
-- A member of MISSING: 40 digits of what is missing, and the rank.

local function missing_of(name, reason)
  return name .. '\0' .. reason
end

local function add_missing(id, message, state)
  local head = head_of(message)
  local what = missing_of(head[NAME], state[REASON] or '')
  if call('ZADD', $MISSING, 0, redis.sha1hex(what) .. rank(head[PRIORITY], state[READY_AT], id)) == 1 then
    call('HINCRBY', $MISSING_COUNTS, what, 1)
  end
end

-- The task is due, or can be run now.
local function remove_missing(id, message, state)
  local head = head_of(message)
  local what = missing_of(head[NAME], state[REASON] or '')
  if call('ZREM', $MISSING, redis.sha1hex(what) .. rank(head[PRIORITY], state[READY_AT], id)) == 1 then
    if call('HINCRBY', $MISSING_COUNTS, what, -1) <= 0 then call('HDEL', $MISSING_COUNTS, what) end
  end
end
