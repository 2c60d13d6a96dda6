-- Put one ready task of priority 0 in, as most calls do: nobody follows, nothing is paused or marked. A script for itself, since it is short.
-- KEYS    1: the queue's prefix
-- ARGV    1: now, microseconds, or "" for the server's own clock  2: channel, or "" if there are no events to tell
--         3: producer  4: its number for this enqueue  5: flag  6: length and text of the head  7: name  8: id  9: payload
-- Returns 0, also if that number was done already; or 2 if it is not that simple: nothing was written, and enqueue.lua has to do it
local P, call = KEYS[1], redis.call
if call('EXISTS', P .. 'c', P .. 'ru') > 0 then return 2 end
if ARGV[2] ~= '' and call('PUBSUB', 'NUMSUB', ARGV[2])[2] > 0 then return 2 end
local now, id = ARGV[1], ARGV[8]
if now == '' then
  local time = call('TIME')
  now = string.format('%010d%06d', time[1], time[2])
end
local last = redis.pcall('HGET', P .. 'l', '0')
if #now ~= 16 or type(last) == 'table' or (last and (tonumber(string.sub(last, 1, 17)) or 1e17) >= tonumber(now)) then return 2 end
-- What is written after the first has the right type by then: this script does not mend.
local length, tokens = redis.pcall('LLEN', P .. 'q:0'), redis.pcall('LLEN', P .. 'wake:o')
if type(length) == 'table' or type(tokens) == 'table' then return 2 end
local came = string.format('%.0f:', tonumber(now) - tonumber(now) % 60000000) .. ARGV[7]
if type(redis.pcall('HINCRBY', P .. 'n', came, 1)) == 'table' then return 2 end
-- 0: that number was done already, and is sent again since its answer was lost; its task may have ended meanwhile.
local noted = redis.pcall('ZADD', P .. 'pr', 'GT', 'CH', ARGV[4], ARGV[3])
local is_new = noted == 1 and redis.pcall('HSETNX', P .. 'm', id, ARGV[5] .. now .. ARGV[6] .. ARGV[9])
if is_new ~= 1 then
  if call('HINCRBY', P .. 'n', came, -1) == 0 then call('HDEL', P .. 'n', came) end
  if noted == 0 or is_new == 0 then return 0 end
  if noted == 1 then call('ZADD', P .. 'pr', string.format('%.0f', ARGV[4] - 1), ARGV[3]) end
  return 2
end
call('RPUSH', P .. 'q:0', id)
call('HSET', P .. 'l', '0', '0' .. now .. id)
if tokens == 0 then call('RPUSH', P .. 'wake:o', 'r') end
return 0
