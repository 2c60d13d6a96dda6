-- Give tasks whose ids are no text, which nobody can speak of, ids that can be named: the bytes beyond ASCII spelled out. They are damaged.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: id of the worker that holds them  3..: ids
-- Returns the new ids
local held, named = P .. 'h:' .. ARGV[2], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local new = string.gsub(id, '[\128-\255]', function(byte) return string.format('\\x%02x', string.byte(byte)) end)
  local message, token = call('HGET', P .. 'm', id), call('HGET', held, id)
  forget(id)
  for _, hash in ipairs({ held, P .. 'm', P .. 'rv' }) do call('HDEL', hash, id) end
  if message and token then
    local state = damaged()
    state[TOKEN] = (tonumber(token) or now) - 1
    save(new, state)
    call('HSET', P .. 'm', new, message)
    call('HSET', held, new, token)
  end
  named[#named + 1] = new
end
level_what_was_touched()
return named
