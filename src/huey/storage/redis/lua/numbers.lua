-- Statistics.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: since
-- Returns rows of span, start, name, packed numbers; and what has not ended: "minute:name" and number in turns
local rows = {}
for _, span in ipairs({ 60, 3600 }) do
  for _, start in ipairs(call('ZRANGEBYSCORE', P .. 'st' .. span, '(' .. text(tonumber(ARGV[2]) - span * 1000000), '+inf')) do
    local numbers = tonumber(start) and call('HGETALL', P .. 'st' .. span .. ':' .. start) or {}
    for i = 1, #numbers, 2 do rows[#rows + 1] = { span, start, numbers[i], numbers[i + 1] } end
  end
end
return { rows, call('HGETALL', P .. 'n') }
