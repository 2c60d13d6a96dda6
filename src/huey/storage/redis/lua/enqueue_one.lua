-- Enqueue one ready task of priority 0 while nothing is paused, revoked or followed, as most calls do. Its own script since it is that short.
-- KEYS    1: the queue's prefix
-- ARGV    1: now, microseconds, or "" for the server's own clock  2: channel, or "" if there are no events
--         3: sequence  4: its number for this enqueue  5: flag  6: length and text of the head  7: name  8: id  9: payload
-- Returns 0, also if that number was executed before; or 2 if it is not that simple: nothing was written, and enqueue.lua has to do it
local P, call = KEYS[1], redis.call
if call('EXISTS', $CONTROL, $REVOKED_UNHELD) > 0 then return 2 end
if ARGV[2] ~= '' and call('PUBSUB', 'NUMSUB', ARGV[2])[2] > 0 then return 2 end
local now, id = ARGV[1], ARGV[8]
if now == '' then
  local time = call('TIME')
  now = string.format('%010d%06d', time[1], time[2])
end
local last = redis.pcall('HGET', $LIST_ENDS, '0')
if #now ~= 16 or type(last) == 'table' or (last and (tonumber(string.sub(last, 1, 17)) or 1e17) >= tonumber(now)) then return 2 end
-- 0: that number was executed before and is sent again because its reply was lost; its task may have ended since.
local noted = redis.pcall('ZADD', $SEQUENCES, 'GT', 'CH', ARGV[4], ARGV[3])
if noted ~= 1 then return noted == 0 and 0 or 2 end
-- This script does not repair keys of a wrong type: it takes back what it wrote.
local is_new, pending = redis.pcall('HSETNX', $MESSAGES, id, ARGV[5] .. now .. ARGV[6] .. ARGV[9]), nil
if is_new == 0 then return 0 end
if is_new == 1 then
  pending = string.format('%.0f:', tonumber(now) - tonumber(now) % 60000000) .. ARGV[7]
  if type(redis.pcall('HINCRBY', $PENDING, pending, 1)) == 'number' then
    if type(redis.pcall('RPUSH', $READY, id)) == 'number' then
      call('HSET', $LIST_ENDS, '0', '0' .. now .. id)
      if call('EXISTS', $WAKE_OTHERS) == 0 then call('RPUSH', $WAKE_OTHERS, 'r') end
      return 0
    end
    call('HINCRBY', $PENDING, pending, -1)
  end
  call('HDEL', $MESSAGES, id)
end
call('ZADD', $SEQUENCES, string.format('%.0f', ARGV[4] - 1), ARGV[3])
return 2
