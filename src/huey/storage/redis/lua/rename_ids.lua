-- Give printable ids to damaged tasks whose ids are not text: bytes beyond ASCII are escaped.
-- ARGV    1: now or ""  2: id of the worker that holds them  3..: ids
-- Returns the new ids
-- include: base lanes constraints
local held, named = $LEASES_OF .. ARGV[2], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local new = string.gsub(id, '[\128-\255]', function(byte) return string.format('\\x%02x', string.byte(byte)) end)
  local message, token = call('HGET', $MESSAGES, id), call('HGET', held, id)
  drop_traces(id)
  for _, hash in ipairs({ held, $MESSAGES, $REVOKED }) do call('HDEL', hash, id) end
  if message and token then
    local state = damaged()
    state[TOKEN] = (tonumber(token) or now) - 1
    save(new, state)
    call('HSET', $MESSAGES, new, message)
    call('HSET', held, new, token)
  end
  named[#named + 1] = new
end
rebalance_touched()
return named
