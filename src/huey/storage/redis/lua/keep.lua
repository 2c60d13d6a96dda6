-- Keep tasks that are kept for a time of their own until another time, and their results.
-- ARGV    1: now or ""  2: until when  3..: ids
-- Returns how many ids were given
-- include: base values
for i = 3, #ARGV do
  local id = ARGV[i]
  local state = load(id)
  if state and state[FINISHED] and state[STATE] == 'succeeded' and state[DUE] then
    state[DUE] = ARGV[2]
    save(id, state)
    call('ZADD', $ENDED_KEPT, ARGV[2], id)
    local value = call('HGET', $RESULTS, id)
    if value and not is_past(value) then
      local expires = later_expiry(expiry_of(value), tonumber(ARGV[2]))
      store_values('result', { id }, { id, stamp_of(expires) .. string.sub(value, $VALUE_IN_STAMPED) }, expires)
    end
  end
end
return #ARGV - 2
