-- What every script begins with: the queue's keys, the time, and how messages and states are read.
-- KEYS    1: the queue's prefix (keys.py). All other keys are made from it; they share its hash tag
-- ARGV    1: now, microseconds, or "" for the server's own clock
-- Returns nothing; a verb's script follows
local P = KEYS[1]
local call = redis.call
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local minute = now - now % 60000000

local STATE, TOKEN, ATTEMPT, CRASHES, DEATHS, PARKED, PLACE, DUE = 1, 2, 3, 4, 5, 6, 7, 8
local REASON, ERROR, ATTEMPTS, FINISHED, REVOKED, LOST_BY, ANEW = 9, 10, 11, 12, 13, 14, 15
local NAME, PRIORITY, RETRIES, DELAY, EXPIRES, ETA, OPTIONS = 1, 2, 3, 4, 5, 6, 7

local function text(number)
  return string.format('%.0f', number)
end

local function created_of(message)
  return tonumber(string.sub(message, 2, 17))
end

-- The outside of a task: name, priority, retries, delay, expires, eta, options; what is at its end and has its default is left out.
local function head_of(message)
  local head = cjson.decode(string.sub(message, 24, 23 + tonumber(string.sub(message, 18, 23))))
  for i = 2, 6 do
    if head[i] == cjson.null then head[i] = nil end
  end
  head[PRIORITY] = head[PRIORITY] or 0
  return head
end

-- The enqueue that a task is, where its id may come again; else nil.
local function own_of(message)
  local options = head_of(message)[OPTIONS]
  if type(options) ~= 'string' or not string.find(options, '"own"', 1, true) then return nil end
  local terms = cjson.decode(options).terms
  return type(terms) == 'table' and terms.own
end

-- Place of a task that was never put back: when it came, or was due.
local function first_place(message)
  local created = created_of(message)
  if string.byte(message, 1) == 45 then return created end
  local eta = head_of(message)[ETA]
  return eta and eta > created and eta or created
end

local function fresh(message)
  return { 'queued', 0, 0, 0, 0, false, first_place(message), false, false, false, false, false, false, false, false }
end

local function load(id)
  local packed = call('HGET', P .. 'd', id)
  return packed and cmsgpack.unpack(packed)
end

local function save(id, state)
  call('HSET', P .. 'd', id, cmsgpack.pack(state))
end

-- No task that has gone had a higher token; an id that comes again begins above it. 1: that of most, which never come again.
local function top_token()
  return tonumber(call('GET', P .. 'tn') or '1')
end

-- A task with that token is about to go.
local function note_token(token)
  if token > top_token() then call('SET', P .. 'tn', text(token)) end
end

-- The mark of one enqueue of an id that is not held, as a field of ru. No id begins with NUL.
local function of_enqueue(id, own)
  return '\0' .. text(own) .. ':' .. id
end

-- A mark is "until once": microseconds, and 1 if it is for once.
local function until_of(mark)
  return tonumber(string.match(mark, '^%S+'))
end

local function is_once(mark)
  return string.sub(mark, -1) == '1'
end

local function holds(mark)
  return mark and until_of(mark) > now
end

-- A mark of an id that is not held is "until once kept": microseconds until which it is kept, too. The mark alone, or nil.
local function kept_mark(mark)
  if mark and tonumber(string.match(mark, '%S+$')) > now then return string.match(mark, '^(%S+ %S+)') end
end

local function in_parts(verb, key, list, size)
  for from = 1, #list, size do
    call(verb, key, unpack(list, from, math.min(from + size - 1, #list)))
  end
end

local function wake(lane, token)
  if call('EXISTS', P .. 'wake:' .. lane) == 0 then call('RPUSH', P .. 'wake:' .. lane, token) end
end
