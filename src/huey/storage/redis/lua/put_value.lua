-- Store a value.
-- ARGV    1: now or ""  2: kind  3: key  4: value  5: microseconds it is kept, or ""  6: "1" to leave a value that is there
-- Returns 1 if it was stored, else 0
-- include: base values
local kind, key = ARGV[2], ARGV[3]
if ARGV[6] == '1' then
  local there = call('HGET', $VALUES .. kind, key)
  if there and not is_past(there) then return 0 end
end
local expires = expiry_after(ARGV[5])
store_values(kind, { key }, { key, string.format('%016.0f', expires) .. ARGV[4] }, expires)
if kind == 'result' then notify_waiters({ key }) else call('SADD', $VALUE_KINDS, kind) end
return 1
