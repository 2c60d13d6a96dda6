-- What every script begins with: the queue's keys, the time, and how messages and states are read.
-- KEYS    1: the queue's prefix (keys.py). All other keys are made from it; they share its hash tag
-- ARGV    1: now, microseconds, or "" for the server's own clock
-- Returns nothing; a verb's script follows
-- A script runs whole: no command of it breaks off because of what somebody else wrote (call), and nothing is taken for granted about
-- what is read. What is not there is an answer; what cannot be read has its defaults here, and is told apart by who decodes it.
local P = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local minute = now - now % 60000000

local STATE, TOKEN, ATTEMPT, CRASHES, DEATHS, PARKED, PLACE, DUE = 1, 2, 3, 4, 5, 6, 7, 8
local REASON, ERROR, ATTEMPTS, FINISHED, REVOKED, LOST_BY, EXPIRY, OPTIONS_NOW = 9, 10, 11, 12, 13, 14, 15, 16
local NUMBERS, TEXTS = { TOKEN, ATTEMPT, CRASHES, DEATHS, PLACE }, { PARKED, DUE, REASON, ERROR, FINISHED, REVOKED, LOST_BY, OPTIONS_NOW }
local NAME, PRIORITY, RETRIES, DELAY, EXPIRES, ETA, OPTIONS, AFTER, EXPIRES_IN = 1, 2, 3, 4, 5, 6, 7, 8, 9
-- 2^53 - 1: numbers up to there are exact, and have 16 digits.
local LAST = 9007199254740991

local function text(number)
  return string.format('%.0f', number)
end

-- Before a command that failed is done again, and fails again if nothing helps: a key of a wrong type is set aside under "damaged:", where it is kept
-- (dk names it until mend.lua has seen to what it held); a number that is none is dropped.
local function mended(why, verb, key, field)
  if string.find(why, 'WRONGTYPE', 1, true) then
    local name = string.sub(key, #P + 1)
    redis.call('RENAME', key, P .. 'damaged:' .. name)
    redis.pcall('SADD', P .. 'dk', name)
  elseif string.find(why, 'not an integer', 1, true) or string.find(why, 'overflow', 1, true) then
    if verb == 'HINCRBY' then redis.call('HDEL', key, field) end
    -- Larger than all that was counted before.
    if verb == 'INCR' then redis.call('SET', key, text(now)) end
  end
end

local function call(verb, key, ...)
  local reply = redis.pcall(verb, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  mended(reply.err, verb, key, ...)
  return redis.call(verb, key, ...)
end

local function is_number(value)
  return type(value) == 'number' and value == value and math.abs(value) <= 2 ^ 63
end

-- A place in the order: what ranks and scores can hold.
local function as_place(number)
  return is_number(number) and math.max(0, math.min(number, LAST)) or 0
end

local function created_of(message)
  return as_place(tonumber(string.sub(message or '', 2, 17)))
end

local function is_head(head)
  if type(head) ~= 'table' or type(head[NAME]) ~= 'string' or type(head[OPTIONS] or '') ~= 'string' then return false end
  for i = 2, 9 do
    if i ~= OPTIONS and head[i] ~= nil and not is_number(head[i]) then return false end
  end
  return head[PRIORITY] == nil or (math.abs(head[PRIORITY]) < 2 ^ 32 and head[PRIORITY] % 1 == 0)
end

-- The outside of a task: name, priority, retries, delay, expires, eta, options, and durations instead of eta and expires; what is at its end
-- and has its default is left out. One that cannot be read has no name.
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

-- The enqueue that a task is, where its id may come again; else nil.
local function own_of(message)
  local options = head_of(message)[OPTIONS]
  if not options or not string.find(options, '"own"', 1, true) then return nil end
  local is_json, found = pcall(cjson.decode, options)
  local constraints = is_json and type(found) == 'table' and found.constraints
  return type(constraints) == 'table' and is_number(constraints.own) and constraints.own or nil
end

-- Place of a task that was never put back: when it came, or was due.
local function first_place(message)
  local created = created_of(message)
  if string.byte(message or '-', 1) == 45 then return created end
  local head = head_of(message)
  local due = head[AFTER] and created + head[AFTER] or head[ETA]
  return due and due > created and as_place(due) or created
end

-- When it expires, or nil. Its state says so (true: never) once that differs from what its enqueue said.
local function expires_at(message, state)
  if state and state[EXPIRY] then return tonumber(state[EXPIRY]) end
  local head = head_of(message)
  return head[EXPIRES_IN] and first_place(message) + head[EXPIRES_IN] or head[EXPIRES]
end

-- When something is due, as ARGV has it: microseconds, "+" and so many from now, or "". Text, since a double does not hold all of them; or nil.
local function due_in(argument)
  if string.sub(argument, 1, 1) == '+' then return text(now + tonumber(string.sub(argument, 2))) end
  return tonumber(argument) and argument
end

local function fresh(message)
  return { 'queued', 0, 0, 0, 0, false, first_place(message), false, false, false, false, false, false, false, false, false }
end

-- What a script packed, if it is a list; nil for what cannot be read.
local function unpacked(packed)
  if not packed then return nil end
  local is_whole, found = pcall(cmsgpack.unpack, packed)
  return is_whole and type(found) == 'table' and found or nil
end

local function damaged()
  return { 'damaged', now, 0, 0, 0, false, now, false, false, false, false, false, false, false, false, false }
end

-- A state as it was packed. One that cannot be read is "damaged", under a token that is larger than all former ones.
local function as_state(packed)
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
  return as_state(call('HGET', P .. 'd', id))
end

local function save(id, state)
  call('HSET', P .. 'd', id, cmsgpack.pack(state))
end

-- No task that has gone had a higher token; an id that comes again begins above it. 1: that of most, which never come again.
local function top_token()
  return tonumber(call('GET', P .. 'tn') or '1') or now
end

-- A task with that token is about to go.
local function note_token(token)
  if token > top_token() then call('SET', P .. 'tn', text(token)) end
end

-- The mark of one enqueue of an id that is not held, as a field of ru. No id begins with NUL.
local function of_enqueue(id, own)
  return '\0' .. text(own) .. ':' .. id
end

-- A mark is "until once": microseconds, and 1 if it is for once. Below 0: until the consumer's clock shows that much.
local function until_of(mark)
  return tonumber(string.match(mark, '^%S+') or '') or 0
end

local function is_once(mark)
  return string.sub(mark, -1) == '1'
end

-- How far the consumer's clock is ahead of UTC, as it has noted.
local function offset()
  local noted = call('HGET', P .. 'v:setting', 'offset')
  return noted and tonumber(string.sub(noted, 17)) or 0
end

local function is_before(time)
  if time < 0 then return now + offset() < -time end
  return now < time
end

local function holds(mark)
  return mark and is_before(until_of(mark))
end

-- A mark of an id that is not held is "until once kept": microseconds until which it is kept, too. The mark alone, or nil.
local function kept_mark(mark)
  if mark and (tonumber(string.match(mark, '%S+$') or '') or 0) > now then return string.match(mark, '^(%S+ %S+)') end
end

local function in_parts(verb, key, list, size)
  for from = 1, #list, size do
    call(verb, key, unpack(list, from, math.min(from + size - 1, #list)))
  end
end

local function wake(lane, token)
  if call('EXISTS', P .. 'wake:' .. lane) == 0 then call('RPUSH', P .. 'wake:' .. lane, token) end
end
