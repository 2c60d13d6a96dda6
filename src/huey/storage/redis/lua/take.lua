-- Read small values, and remove them if asked to.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: kind  3: "1" to remove  4..: keys
-- Returns values in the order of the keys, nil for those that are not there
local kind = ARGV[2]
local values = call('HMGET', P .. 'v:' .. kind, unpack(ARGV, 4))
local expire, found = call('EXISTS', P .. 'x:' .. kind) == 1, {}
for i = 1, #values do
  if values[i] then
    local key = ARGV[3 + i]
    if expire and is_past(kind, key) then values[i] = false else found[#found + 1] = key end
  end
end
if ARGV[3] == '1' and #found > 0 then
  in_parts('HDEL', P .. 'v:' .. kind, found, 4000)
  if expire then in_parts('ZREM', P .. 'x:' .. kind, found, 4000) end
end
return values
