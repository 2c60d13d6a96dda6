-- Take the marks of tasks back that have not ended.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: the enqueue that is meant, or "" for any  3..: ids
-- Returns the ids that were marked
local marked = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local field = field_to_keep(id, ARGV[2])
  if not field then
    if call('HDEL', P .. 'rv', id) == 1 then marked[#marked + 1] = id end
  elseif kept_mark(call('HGET', P .. 'ru', field)) then
    call('HDEL', P .. 'ru', field)
    call('ZREM', P .. 'ux', field)
    marked[#marked + 1] = id
  end
end
return marked
