-- Store a small value.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: kind  3: key  4: value  5: microseconds it is kept, or ""  6: "1" to leave a value that is there
-- Returns 1 if it was stored, else 0
local kind, key, ttl = ARGV[2], ARGV[3], tonumber(ARGV[5])
if ARGV[6] == '1' and call('HEXISTS', P .. 'v:' .. kind, key) == 1 and not is_past(kind, key) then return 0 end
call('HSET', P .. 'v:' .. kind, key, ARGV[4])
if ttl then
  call('ZADD', P .. 'x:' .. kind, text(now + ttl), key)
else
  call('ZREM', P .. 'x:' .. kind, key)
end
if kind == 'result' then announce({ key }) else call('SADD', P .. 'k', kind) end
return 1
