-- The mark of a task, or of a name.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "+" and id, or ""  3: "+" and name, or ""  4: the enqueue that is meant, or "" for any
-- Returns the mark, "until once", or nil
if ARGV[2] ~= '' then
  local id = string.sub(ARGV[2], 2)
  local is_any = ARGV[4] == ''
  local field, mark = is_any and id or field_to_keep(id, ARGV[4])
  if is_any or not field then
    mark = call('HGET', P .. 'rv', id)
    if mark then return mark end
    local state = load(id)
    if state and state[REVOKED] then return state[REVOKED] end
  end
  mark = kept_mark(call('HGET', P .. 'ru', is_any and id or of_enqueue(id, tonumber(ARGV[4]))))
  if mark then return mark end
end
return ARGV[3] ~= '' and call('HGET', P .. 'rn', string.sub(ARGV[3], 2))
