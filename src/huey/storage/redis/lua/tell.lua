-- Telling events: to whoever followed of late, and on the channel of the queue's name.
-- KEYS    1: the queue's prefix
-- ARGV    none of its own; CHANNEL is set by the verb's script
-- Returns nothing; a verb's script follows
local function has_reader()
  return (tonumber(call('HGET', P .. 'c', 'followed') or '') or 0) > now
end

local function is_followed(channel)
  return has_reader() or call('PUBSUB', 'NUMSUB', channel)[2] > 0
end

local function tell(channel, from, to)
  if from > to then return end
  for i = from, to do
    -- Nobody heard the first: nobody will hear the others.
    if call('PUBLISH', channel, ARGV[i]) == 0 then break end
  end
  if has_reader() then
    for i = from, to do
      local position = call('INCR', P .. 'en')
      -- It fails behind a position that was not made here; an event is not worth more than what it tells of.
      pcall(call, 'XADD', P .. 'ev', text(position) .. '-0', 't', text(now), 'e', ARGV[i])
    end
  end
end
