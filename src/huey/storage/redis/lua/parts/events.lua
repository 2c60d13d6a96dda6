-- Publishing events: to the stream while a follower counts, and to the channel with the queue's name.
local function has_follower()
  return (tonumber(call('HGET', $CONTROL, 'followed') or '') or 0) > now
end

local function is_followed(channel)
  return has_follower() or call('PUBSUB', 'NUMSUB', channel)[2] > 0
end

-- Publish the events ARGV[FROM] to ARGV[TO].
local function publish_events(channel, from, to)
  if from > to then return end
  for i = from, to do
    -- The first had no subscriber, so the others would have none either.
    if call('PUBLISH', channel, ARGV[i]) == 0 then break end
  end
  if has_follower() then
    for i = from, to do
      local position = call('INCR', $EVENT_POSITION)
      -- It fails behind a foreign position. A lost event must not fail the change it is about.
      pcall(call, 'XADD', $EVENTS, text(position) .. '-0', 't', text(now), 'e', ARGV[i])
    end
  end
end
