-- Take the marks of tasks back that have not ended.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2..: ids
-- Returns the ids that were marked
local marked = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  if call('HDEL', P .. 'rv', id) == 1 then
    marked[#marked + 1] = id
  elseif call('HEXISTS', P .. 'm', id) == 0 then
    if kept_mark(call('HGET', P .. 'ru', id)) then
      call('HDEL', P .. 'ru', id)
      call('ZREM', P .. 'ux', id)
      marked[#marked + 1] = id
    end
  end
end
return marked
