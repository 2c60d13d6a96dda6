-- Claim tasks that no worker could run so far.
-- ARGV    1: now or ""  2: lease clock or ""  3: worker id  4: worker details  5: want  6..: name and reason of what this worker has,
--         in turns
-- Returns ids, messages and states of what was claimed, as a turn does
-- include: base values worker_leases lanes insert constraints missing stats edge_traces finishes claim
renew(ARGV[3], ARGV[4], ARGV[2])
if call('HGET', $CONTROL, 'paused') == '1' then return { {}, {}, {} } end

-- Whether a revocation may be active: a wall time is left to the turn.
local function may_be_active(revocation)
  return revocation and (until_of(revocation) < 0 or is_active(revocation))
end

local want, members = tonumber(ARGV[5]), {}
for i = 6, #ARGV, 2 do
  local what = missing_of(ARGV[i], ARGV[i + 1])
  local hash = redis.sha1hex(what)
  local some = call('ZRANGEBYLEX', $MISSING, '[' .. hash, '(' .. hash .. '~', 'LIMIT', 0, want)
  if #some == 0 then call('HDEL', $MISSING_COUNTS, what) end
  for _, member in ipairs(some) do members[#members + 1] = { member, what } end
end
table.sort(members, function(a, b) return precedes(string.sub(a[1], $RANK_IN_MEMBER), string.sub(b[1], $RANK_IN_MEMBER)) end)
local held, messages, states, leases, size = {}, {}, {}, {}, 0
for i = 1, math.min(want, #members) do
  if size > $TURN_BYTES then break end
  local member, what = members[i][1], members[i][2]
  local id = string.sub(member, $ID_IN_MEMBER)
  local message, state = call('HGET', $MESSAGES, id), load(id)
  local is_there = message and state and state[STATE] == 'queued' and state[UNKNOWN_UNTIL] and call('ZSCORE', $SCHEDULED, id)
  -- What is due by now is left to the next turn.
  local is_taken = not is_there or tonumber(is_there) > now
  if is_there and is_taken then
    local of_name, of_task = call('HGET', $REVOKED_NAMES, head_of(message)[NAME]), call('HGET', $REVOKED, id)
    local is_revoked = may_be_active(of_name) or may_be_active(of_task)
    if is_revoked or read_constraints(id) or state[SOLO_CRASHES] > 0 or skip_reason(id, message, state, false, false) then
      is_taken, state[DUE] = false, text(now)
      save(id, state)
      schedule({ id }, text(now))
    else
      call('ZREM', $SCHEDULED, id)
      state[REASON], state[DUE] = false, false
      save(id, state)
      local n = #held + 1
      held[n], messages[n], states[n] = id, message, state
      size = size + #message
      leases[2 * n - 1], leases[2 * n] = id, text(state[TOKEN] + 1)
    end
  end
  if is_taken then
    call('ZREM', $MISSING, member)
    if call('HINCRBY', $MISSING_COUNTS, what, -1) <= 0 then call('HDEL', $MISSING_COUNTS, what) end
  end
end
if #held > 0 then in_parts('HSET', $LEASES_OF .. ARGV[3], leases, 4000) end
return { held, messages, states }
