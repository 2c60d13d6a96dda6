-- What a worker holds.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: worker id
-- Returns ids, messages, states, tokens
local held = call('HGETALL', P .. 'h:' .. ARGV[2])
local ids, messages, states, tokens = {}, {}, {}, {}
for i = 1, #held, 2 do
  local n = #ids + 1
  ids[n], tokens[n] = held[i], held[i + 1]
  messages[n], states[n] = call('HGET', P .. 'm', held[i]), load(held[i]) or false
end
return { ids, messages, states, tokens }
