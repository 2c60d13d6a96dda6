-- Telling events: to whoever followed of late, and on the channel of the queue's name.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own; CHANNEL is set by the verb's script
-- Returns nothing; a verb's script follows
local function is_followed(channel)
  local until_when = tonumber(call('HGET', P .. 'c', 'followed') or '0')
  return until_when > now, call('PUBSUB', 'NUMSUB', channel)[2] > 0
end

local function tell(channel, from, to)
  if from > to then return end
  for i = from, to do
    -- Nobody heard the first: nobody will hear the others.
    if call('PUBLISH', channel, ARGV[i]) == 0 then break end
  end
  if tonumber(call('HGET', P .. 'c', 'followed') or '0') > now then
    for i = from, to do
      local position = call('INCR', P .. 'en')
      call('XADD', P .. 'ev', text(position) .. '-0', 't', text(now), 'e', ARGV[i])
    end
  end
end
