-- Take over all that a dead worker holds, with new tokens; forget it.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: heir's id  4: its details  5: dead worker's id  6: end of its lease as it was seen
--         7: who it was, as part of a JSON object
-- Returns ids, messages and states of what was taken over, as a claim does
renew(ARGV[3], ARGV[4], ARGV[2])
local seen = lease_end(ARGV[5])
if not seen or text(seen) ~= ARGV[6] then return { {}, {}, {} } end
local known, held = call('HKEYS', P .. 'h:' .. ARGV[5]), {}
table.sort(known)
local messages, states, leases = {}, {}, {}
for _, id in ipairs(known) do
  local message = call('HGET', P .. 'm', id)
  -- An id without a message stands for nothing: it goes with the one who held it.
  if message then
    local i, token = #held + 1, tonumber(call('HGET', P .. 'h:' .. ARGV[5], id)) or now
    local state = load(id) or fresh(message)
    state[TOKEN], state[REASON], state[LOST_BY] = token, false, state[LOST_BY] or ARGV[7]
    save(id, state)
    held[i], messages[i], states[i] = id, message, state
    leases[2 * i - 1], leases[2 * i] = id, text(token + 1)
  end
end
if #held > 0 then in_parts('HSET', P .. 'h:' .. ARGV[3], leases, 4000) end
call('DEL', P .. 'h:' .. ARGV[5])
call('ZREM', P .. 'wl', ARGV[5])
call('HDEL', P .. 'w', ARGV[5])
return { held, messages, states }
