-- How many tasks are in each state, and results.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""
-- Returns ready, scheduled, running, failed, cancelled, results, succeeded, blocked
local ready = call('LLEN', P .. 'q:0') + call('ZCARD', P .. 'z') + call('ZCARD', P .. 'u')
for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do ready = ready + call('LLEN', P .. 'q:' .. name) end
local running = 0
for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do running = running + call('HLEN', P .. 'h:' .. worker) end
local results = call('HLEN', P .. 'v:result')
for _, expires in ipairs(call('ZRANGEBYSCORE', P .. 'x:result', '-inf', text(now))) do
  results = results - (tonumber(call('HGET', P .. 'xn:result', expires) or '') or 0)
end
return {
  ready, call('ZCARD', P .. 's') - call('ZCARD', P .. 'mt'), running, call('ZCARD', P .. 'e:failed'), call('ZCARD', P .. 'e:cancelled'), results,
  call('ZCARD', P .. 'e:succeeded'), call('ZCARD', P .. 'lw') + call('ZCARD', P .. 'mt'),
}
