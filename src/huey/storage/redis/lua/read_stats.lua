-- Read statistics.
-- ARGV    1: now or ""  2: since
-- Returns rows of span, start, name, packed numbers; and pending tasks: "minute:name" and number in turns
-- include: base
local rows = {}
for _, each in ipairs({ { 60, $MINUTES }, { 3600, $HOURS } }) do
  local span, index = unpack(each)
  for _, start in ipairs(call('ZRANGEBYSCORE', index, '(' .. text(tonumber(ARGV[2]) - span * 1000000), '+inf')) do
    local numbers = tonumber(start) and call('HGETALL', index .. ':' .. start) or {}
    for i = 1, #numbers, 2 do rows[#rows + 1] = { span, start, numbers[i], numbers[i + 1] } end
  end
end
return { rows, call('HGETALL', $PENDING) }
