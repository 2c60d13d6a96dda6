-- Read values, and remove them if asked to.
-- ARGV    1: now or ""  2: kind  3: "1" to remove  4..: keys
-- Returns values (stamped) in the order of the keys, nil for those that are not there
-- include: base values
local kind, found, removed = ARGV[2], {}, {}
local values = call('HMGET', $VALUES .. kind, unpack(ARGV, 4))
for i = 1, #values do
  if values[i] and is_past(values[i]) then
    values[i] = false
  elseif values[i] then
    found[#found + 1], removed[#removed + 1] = ARGV[3 + i], values[i]
  end
end
if ARGV[3] == '1' and #found > 0 then
  call('HDEL', $VALUES .. kind, unpack(found))
  uncount(kind, removed)
end
return values
