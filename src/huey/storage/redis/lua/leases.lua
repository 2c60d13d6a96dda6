-- Read what a worker holds.
-- ARGV    1: now or ""  2: worker id
-- Returns ids, messages, states, tokens
-- include: base
local held = call('HGETALL', $LEASES_OF .. ARGV[2])
local ids, messages, states, tokens = {}, {}, {}, {}
for i = 1, #held, 2 do
  local message, n = call('HGET', $MESSAGES, held[i]), #ids + 1
  if message then ids[n], tokens[n], messages[n], states[n] = held[i], held[i + 1], message, load(held[i]) or false end
end
return { ids, messages, states, tokens }
