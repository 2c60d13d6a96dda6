-- Count the tasks in each state, and results.
-- Returns ready, scheduled, running, failed, cancelled, results, succeeded, blocked, 1 if the queue is paused, waiting
-- include: base
local ready = call('LLEN', $READY) + call('ZCARD', $READY_RANKED) + call('ZCARD', $SUSPECTS)
for _, name in ipairs(call('ZRANGE', $PRIORITIES, 0, -1)) do ready = ready + call('LLEN', $READY_LISTS .. name) end
local running = 0
for _, worker in ipairs(call('ZRANGE', $WORKER_LEASES, 0, -1)) do running = running + call('HLEN', $LEASES_OF .. worker) end
local results = call('HLEN', $RESULTS)
for _, expires in ipairs(call('ZRANGEBYSCORE', $RESULT_EXPIRIES, '-inf', text(now))) do
  results = results - (tonumber(call('HGET', $RESULT_EXPIRY_COUNTS, expires) or '') or 0)
end
return {
  ready, call('ZCARD', $SCHEDULED) - call('ZCARD', $MISSING), running, call('ZCARD', $ENDED_FAILED), call('ZCARD', $ENDED_CANCELLED), results,
  call('ZCARD', $ENDED_SUCCEEDED) + call('ZCARD', $ENDED_KEPT), call('ZCARD', $LIMIT_BLOCKED) + call('ZCARD', $MISSING),
  call('HGET', $CONTROL, 'paused') == '1' and 1 or 0, call('ZCARD', $WAITING),
}
