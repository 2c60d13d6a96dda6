-- Put one ready task of priority 0 in, as most calls do: nobody follows, nothing is paused or marked. A script for itself, since it is short.
-- KEYS    1: the queue's prefix
-- ARGV    1: now, microseconds, or "" for the server's own clock  2: channel, or "" if there are no events to tell
--         3: flag  4: length and text of the head  5: name  6: id  7: payload
-- Returns 0; or 2 if it is not that simple: nothing was written, and enqueue.lua has to do it
local P, call = KEYS[1], redis.call
if call('EXISTS', P .. 'c', P .. 'ru') > 0 then return 2 end
if ARGV[2] ~= '' and call('PUBSUB', 'NUMSUB', ARGV[2])[2] > 0 then return 2 end
local now, id = ARGV[1], ARGV[6]
if now == '' then
  local time = call('TIME')
  now = string.format('%010d%06d', time[1], time[2])
end
local last = redis.pcall('HGET', P .. 'l', '0')
if #now ~= 16 or type(last) == 'table' or (last and (tonumber(string.sub(last, 1, 17)) or 1e17) >= tonumber(now)) then return 2 end
-- What is written after the first has the right type by then: this script does not mend.
local length, tokens = redis.pcall('LLEN', P .. 'q:0'), redis.pcall('LLEN', P .. 'wake:o')
if type(length) == 'table' or type(tokens) == 'table' then return 2 end
local came = string.format('%.0f:', tonumber(now) - tonumber(now) % 60000000) .. ARGV[5]
if type(redis.pcall('HINCRBY', P .. 'n', came, 1)) == 'table' then return 2 end
local is_new = redis.pcall('HSETNX', P .. 'm', id, ARGV[3] .. now .. ARGV[4] .. ARGV[7])
if is_new ~= 1 then
  if call('HINCRBY', P .. 'n', came, -1) == 0 then call('HDEL', P .. 'n', came) end
  return is_new == 0 and 0 or 2
end
call('RPUSH', P .. 'q:0', id)
call('HSET', P .. 'l', '0', '0' .. now .. id)
if tokens == 0 then call('RPUSH', P .. 'wake:o', 'r') end
return 0
