-- Remove everything of this queue but its workers.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""
-- Returns 0
-- A worker may still come back with a lease of what goes here.
local position = '0'
repeat
  local found = call('HSCAN', P .. 'd', position, 'COUNT', 1000)
  position = found[1]
  for i = 2, #found[2], 2 do note_token(as_state(found[2][i])[TOKEN]) end
until position == '0'
for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do
  for _, token in ipairs(call('HVALS', P .. 'h:' .. worker)) do note_token(tonumber(token) or 0) end
end

local function drop(key) call('UNLINK', P .. key) end
for _, name in ipairs(call('ZRANGE', P .. 'p', 0, -1)) do drop('q:' .. name) end
for _, worker in ipairs(call('ZRANGE', P .. 'wl', 0, -1)) do drop('h:' .. worker) end
for _, kind in ipairs(call('SMEMBERS', P .. 'k')) do
  drop('v:' .. kind)
  drop('x:' .. kind)
  drop('xn:' .. kind)
end
for _, span in ipairs({ 60, 3600 }) do
  for _, start in ipairs(call('ZRANGE', P .. 'st' .. span, 0, -1)) do drop('st' .. span .. ':' .. start) end
  drop('st' .. span)
end
for _, known in ipairs({ 'dk', 'dm' }) do
  for _, name in ipairs(call('SMEMBERS', P .. known)) do drop('damaged:' .. name) end
  drop(known)
end
for key in string.gmatch('m d q:0 p l z u s e:failed e:cancelled e:succeeded rv ru ux rn n tk v:result x:result xn:result k c sc ev wake:o wake:u t uk kp kx lw lo lr mt mn lk lp rt rx', '%S+') do
  drop(key)
end
return 0
