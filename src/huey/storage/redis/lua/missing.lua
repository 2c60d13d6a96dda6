-- Tasks that wait for a worker that can run them: scheduled for the end of their time, and by what is missing.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own
-- Returns nothing; a verb's script follows
-- What is missing: 40 digits, before rank and id in mt; and as it is told, a field of mn that counts them.
local MISSING_ID = 75

local function missing_of(name, reason)
  return name .. '\0' .. reason
end

local function note_missing(id, message, state)
  local head = head_of(message)
  local what = missing_of(head[NAME], state[REASON] or '')
  if call('ZADD', P .. 'mt', 0, redis.sha1hex(what) .. rank(head[PRIORITY], state[PLACE], id)) == 1 then
    call('HINCRBY', P .. 'mn', what, 1)
  end
end

-- It does not wait for that any more.
local function drop_missing(id, message, state)
  local head = head_of(message)
  local what = missing_of(head[NAME], state[REASON] or '')
  if call('ZREM', P .. 'mt', redis.sha1hex(what) .. rank(head[PRIORITY], state[PLACE], id)) == 1 then
    if call('HINCRBY', P .. 'mn', what, -1) <= 0 then call('HDEL', P .. 'mn', what) end
  end
end
