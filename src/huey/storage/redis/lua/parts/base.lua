-- The beginning of every script: the time, and functions that read messages, states and revocations.
-- KEYS    1: the queue's prefix (keys.py). All other keys are made from it; they share its hash tag
-- ARGV    1: now, microseconds, or "" for the server's own clock
-- A script runs to its end: no command fails because of foreign data (call), and no value that is read is trusted. A missing value is an
-- answer; an unreadable one gets defaults here, and the client that decodes it recognizes it as unreadable.
local P = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local minute = now - now % 60000000

-- Fields of a state.

local STATE, TOKEN, ATTEMPT, SOLO_CRASHES, DEATHS, UNKNOWN_UNTIL, READY_AT, DUE = 1, 2, 3, 4, 5, 6, 7, 8
local REASON, ERROR, ATTEMPTS, FINISHED, REVOKED, CRASHED_WORKER, EXPIRY, OPTIONS_NOW = 9, 10, 11, 12, 13, 14, 15, 16
local NUMBERS = { TOKEN, ATTEMPT, SOLO_CRASHES, DEATHS, READY_AT }
local TEXTS = { UNKNOWN_UNTIL, DUE, REASON, ERROR, FINISHED, REVOKED, CRASHED_WORKER, OPTIONS_NOW }
-- Fields of a head: what is readable of a task without its payload.
local NAME, PRIORITY, RETRIES, DELAY, EXPIRES, ETA, OPTIONS, AFTER, EXPIRES_IN = 1, 2, 3, 4, 5, 6, 7, 8, 9
-- 2^53 - 1: numbers up to there are exact, and have 16 digits.
local LAST = 9007199254740991

local function text(number)
  return string.format('%.0f', number)
end

-- Remove the cause of a failed command before it is repeated. A key of a wrong type is renamed to "damaged:..." and kept there; it is listed
-- until repair.lua has restored the tasks that stood in it. A counter that is not a number is dropped.
local function remove_cause(why, verb, key, field)
  if string.find(why, 'WRONGTYPE', 1, true) then
    local name = string.sub(key, #P + 1)
    redis.call('RENAME', key, $DAMAGED .. name)
    redis.pcall('SADD', $DAMAGED_KEYS, name)
  elseif string.find(why, 'not an integer', 1, true) or string.find(why, 'overflow', 1, true) then
    if verb == 'HINCRBY' then redis.call('HDEL', key, field) end
    -- Higher than any earlier position.
    if verb == 'INCR' then redis.call('SET', key, text(now)) end
  end
end

local function call(verb, key, ...)
  local reply = redis.pcall(verb, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  remove_cause(reply.err, verb, key, ...)
  return redis.call(verb, key, ...)
end

local function is_number(value)
  return type(value) == 'number' and value == value and math.abs(value) <= 2 ^ 63
end

-- A time that ranks and scores can hold.
local function clamp_time(number)
  return is_number(number) and math.max(0, math.min(number, LAST)) or 0
end

local function created_of(message)
  return clamp_time(tonumber(string.sub(message or '', 2, 17)))
end

local function is_head(head)
  if type(head) ~= 'table' or type(head[NAME]) ~= 'string' or type(head[OPTIONS] or '') ~= 'string' then return false end
  for i = 2, 9 do
    if i ~= OPTIONS and head[i] ~= nil and not is_number(head[i]) then return false end
  end
  return head[PRIORITY] == nil or (math.abs(head[PRIORITY]) < 2 ^ 32 and head[PRIORITY] % 1 == 0)
end

-- The head of a message: name, priority, retries, delay, expires, eta, options, and durations instead of eta and expires. Defaults at its
-- end are left out. An unreadable one has an empty name.
local function head_of(message)
  local length = tonumber(string.sub(message or '', 18, 23))
  local is_json, head = pcall(cjson.decode, length and string.sub(message, 24, 23 + length) or '')
  if is_json and type(head) == 'table' then
    for i = 2, 9 do
      if head[i] == cjson.null then head[i] = nil end
    end
  end
  if not is_json or not is_head(head) then head = { '' } end
  head[PRIORITY] = head[PRIORITY] or 0
  return head
end

-- The enqueue of its id that a task stands for, if the id may be enqueued again after its end; else nil.
local function own_of(message)
  local options = head_of(message)[OPTIONS]
  if not options or not string.find(options, '"own"', 1, true) then return nil end
  local is_json, found = pcall(cjson.decode, options)
  local constraints = is_json and type(found) == 'table' and found.constraints
  return type(constraints) == 'table' and is_number(constraints.own) and constraints.own or nil
end

-- ready_at of a task that was never requeued: when it was enqueued, or was due.
local function first_ready_at(message)
  local created = created_of(message)
  if string.byte(message or '-', 1) == $PLAIN then return created end
  local head = head_of(message)
  local due = head[AFTER] and created + head[AFTER] or head[ETA]
  return due and due > created and clamp_time(due) or created
end

-- When a task expires, or nil. Its state overrides (true: never) what its enqueue asked for.
local function expires_at(message, state)
  if state and state[EXPIRY] then return tonumber(state[EXPIRY]) end
  local head = head_of(message)
  return head[EXPIRES_IN] and first_ready_at(message) + head[EXPIRES_IN] or head[EXPIRES]
end

-- A due time of ARGV: microseconds, "+" and microseconds from now, or "". It stays text, since a double cannot hold all of them; or nil.
local function due_in(argument)
  if string.sub(argument, 1, 1) == '+' then return text(now + tonumber(string.sub(argument, 2))) end
  return tonumber(argument) and argument
end

-- Where an ended task is listed.
local function ended_key(state)
  if state[STATE] == 'succeeded' and state[DUE] then return $ENDED_KEPT end
  return $ENDED .. state[STATE]
end

local function new_state(message)
  return { 'queued', 0, 0, 0, 0, false, first_ready_at(message), false, false, false, false, false, false, false, false, false }
end

-- A list that a script packed; nil if it cannot be read.
local function unpacked(packed)
  if not packed then return nil end
  local is_whole, found = pcall(cmsgpack.unpack, packed)
  return is_whole and type(found) == 'table' and found or nil
end

local function damaged()
  return { 'damaged', now, 0, 0, 0, false, now, false, false, false, false, false, false, false, false, false }
end

-- A packed state. An unreadable one becomes "damaged", with a token that is higher than all earlier ones.
local function parse_state(packed)
  if not packed then return packed end
  local state = unpacked(packed) or {}
  for i = STATE, OPTIONS_NOW do
    if state[i] == nil then state[i] = false end
  end
  local is_whole = type(state[STATE]) == 'string'
  for _, i in ipairs(NUMBERS) do
    if not is_number(state[i]) then is_whole = false end
  end
  for _, i in ipairs(TEXTS) do
    if state[i] and type(state[i]) ~= 'string' then is_whole = false end
  end
  if type(state[ATTEMPTS]) ~= 'table' then state[ATTEMPTS] = false end
  return is_whole and state or damaged()
end

local function load(id)
  return parse_state(call('HGET', $STATES, id))
end

local function save(id, state)
  call('HSET', $STATES, id, cmsgpack.pack(state))
end

-- The highest token of all removed tasks; an id that is enqueued again starts above it. 1: the token that most tasks end with.
local function top_token()
  return tonumber(call('GET', $TOP_TOKEN) or '1') or now
end

-- Call it before a task with that token is removed.
local function note_token(token)
  if token > top_token() then call('SET', $TOP_TOKEN, text(token)) end
end

-- The field of REVOKED_UNHELD for one enqueue of an id. No id begins with NUL.
local function of_enqueue(id, own)
  return '\0' .. text(own) .. ':' .. id
end

-- A revocation is "until once": microseconds, and 1 if it is for one run only. Below 0: until the consumer's wall clock shows that time.
local function until_of(revocation)
  return tonumber(string.match(revocation, '^%S+') or '') or 0
end

local function is_once(revocation)
  return string.sub(revocation, -1) == '1'
end

-- How far the consumer's wall clock is ahead of UTC, as the consumer has stored it.
local function offset()
  local noted = call('HGET', $SETTINGS, 'offset')
  return noted and tonumber(string.sub(noted, $VALUE_IN_STAMPED)) or 0
end

local function is_before(time)
  if time < 0 then return now + offset() < -time end
  return now < time
end

local function is_active(revocation)
  return revocation and is_before(until_of(revocation))
end

-- A revocation of an id that is not held is "until once kept": also until when it is kept. Returns the part without that, or nil.
local function kept_revocation(revocation)
  if revocation and (tonumber(string.match(revocation, '%S+$') or '') or 0) > now then return string.match(revocation, '^(%S+ %S+)') end
end

-- Call a command with a long list, SIZE arguments at a time.
local function in_parts(verb, key, list, size)
  for from = 1, #list, size do
    call(verb, key, unpack(list, from, math.min(from + size - 1, #list)))
  end
end

-- The earliest time among the scores of two sets, or nil.
local function earliest(one, other)
  local a, b = call('ZRANGE', one, 0, 0, 'WITHSCORES')[2], call('ZRANGE', other, 0, 0, 'WITHSCORES')[2]
  if a and b then return tonumber(a) <= tonumber(b) and a or b end
  return a or b
end

-- Wake one worker that waits for a lane (o: other tasks, u: suspects). r: a task is ready; s: check the schedule or the queue's state.
local function wake(lane, token)
  if call('EXISTS', $WAKE .. lane) == 0 then call('RPUSH', $WAKE .. lane, token) end
end
