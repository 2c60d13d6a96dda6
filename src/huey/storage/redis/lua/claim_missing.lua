-- Lease tasks that wait for a worker that can run them.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: lease clock or ""  3: worker id  4: worker details  5: want  6..: name and reason of what is not missing there,
--         in turns
-- Returns ids, messages and states of what was leased, as a claim does
renew(ARGV[3], ARGV[4], ARGV[2])
if call('HGET', P .. 'c', 'paused') == '1' then return { {}, {}, {} } end

-- A wall time is read by the claim.
local function may_hold(mark)
  return mark and (until_of(mark) < 0 or holds(mark))
end

local want, members = tonumber(ARGV[5]), {}
for i = 6, #ARGV, 2 do
  local what = missing_of(ARGV[i], ARGV[i + 1])
  local mark = redis.sha1hex(what)
  local some = call('ZRANGEBYLEX', P .. 'mt', '[' .. mark, '(' .. mark .. '~', 'LIMIT', 0, want)
  if #some == 0 then call('HDEL', P .. 'mn', what) end
  for _, member in ipairs(some) do members[#members + 1] = { member, what } end
end
table.sort(members, function(a, b) return precedes(string.sub(a[1], 41), string.sub(b[1], 41)) end)
local held, messages, states, leases, size = {}, {}, {}, {}, 0
for i = 1, math.min(want, #members) do
  if size > 8388608 then break end
  local member, what = members[i][1], members[i][2]
  local id = string.sub(member, MISSING_ID)
  local message, state = call('HGET', P .. 'm', id), load(id)
  local is_there = message and state and state[STATE] == 'queued' and state[PARKED] and call('ZSCORE', P .. 's', id)
  -- What is due already is for the next turn.
  local is_taken = not is_there or tonumber(is_there) > now
  if is_there and is_taken then
    local of_name, of_task = call('HGET', P .. 'rn', head_of(message)[NAME]), call('HGET', P .. 'rv', id)
    local is_marked = may_hold(of_name) or may_hold(of_task)
    if is_marked or read_constraints(id) or state[CRASHES] > 0 or bar(id, message, state, false, false) then
      is_taken, state[DUE] = false, text(now)
      save(id, state)
      schedule({ id }, text(now))
    else
      call('ZREM', P .. 's', id)
      state[REASON], state[DUE] = false, false
      save(id, state)
      local n = #held + 1
      held[n], messages[n], states[n] = id, message, state
      size = size + #message
      leases[2 * n - 1], leases[2 * n] = id, text(state[TOKEN] + 1)
    end
  end
  if is_taken then
    call('ZREM', P .. 'mt', member)
    if call('HINCRBY', P .. 'mn', what, -1) <= 0 then call('HDEL', P .. 'mn', what) end
  end
end
if #held > 0 then in_parts('HSET', P .. 'h:' .. ARGV[3], leases, 4000) end
return { held, messages, states }
