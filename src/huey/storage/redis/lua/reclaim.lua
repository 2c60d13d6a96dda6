-- Take over all that a dead worker holds, with new tokens, and remove the worker.
-- ARGV    1: now or ""  2: lease clock or ""  3: successor's id  4: its details  5: dead worker's id  6: end of its lease as it was seen
--         7: who it was, as part of a JSON object
-- Returns ids, messages and states of what was taken over, as a turn does
-- include: base worker_leases
renew(ARGV[3], ARGV[4], ARGV[2])
local seen = lease_end(ARGV[5])
if not seen or text(seen) ~= ARGV[6] then return { {}, {}, {} } end
local ids, held = call('HKEYS', $LEASES_OF .. ARGV[5]), {}
table.sort(ids)
local messages, states, leases = {}, {}, {}
for _, id in ipairs(ids) do
  local message = call('HGET', $MESSAGES, id)
  -- An id without a message is not a task: it is removed with the worker.
  if message then
    local i, token = #held + 1, tonumber(call('HGET', $LEASES_OF .. ARGV[5], id)) or now
    local state = load(id) or new_state(message)
    state[TOKEN], state[REASON], state[CRASHED_WORKER] = token, false, state[CRASHED_WORKER] or ARGV[7]
    save(id, state)
    held[i], messages[i], states[i] = id, message, state
    leases[2 * i - 1], leases[2 * i] = id, text(token + 1)
  end
end
if #held > 0 then in_parts('HSET', $LEASES_OF .. ARGV[3], leases, 4000) end
call('DEL', $LEASES_OF .. ARGV[5])
call('ZREM', $WORKER_LEASES, ARGV[5])
call('HDEL', $WORKERS, ARGV[5])
return { held, messages, states }
