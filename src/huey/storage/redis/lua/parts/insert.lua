-- Inserting records that have no constraints.
-- ARGV groups of records that differ only in id and payload, in order of id: flag, length and text of the head, priority, eta (or "+"
--         and microseconds from now, or ""), name, count, the ids, the payloads

-- Whether this enqueue of a sequence was executed before and is sent again because its reply was lost. Its tasks may have ended since.
local function is_repeated(sequence, number)
  return call('ZADD', $SEQUENCES, 'GT', 'CH', number, sequence) == 0
end

-- Move revocations that were stored before the enqueue to the tasks. One of this enqueue (OWN) overrides one of its id.
local function apply_revocations(ids, own)
  for _, id in ipairs(ids) do
    for _, field in ipairs({ id, own and of_enqueue(id, own) }) do
      local revocation = kept_revocation(call('HGET', $REVOKED_UNHELD, field))
      if revocation then
        call('HSET', $REVOKED, id, revocation)
        call('HDEL', $REVOKED_UNHELD, field)
        call('ZREM', $REVOKED_UNHELD_EXPIRIES, field)
      end
    end
  end
end

-- Schedule ids with one due time.
local function schedule(ids, eta)
  local pairs_of = {}
  for i, id in ipairs(ids) do
    pairs_of[2 * i - 1], pairs_of[2 * i] = eta, id
  end
  in_parts('ZADD', $SCHEDULED, pairs_of, 4000)
  if string.sub(call('ZRANGE', $SCHEDULED, 0, 0)[1], 1) == ids[1] then
    wake('o', 's')
    wake('u', 's')
  end
end

-- Store the messages of a group whose ids are not held yet; return those ids.
local function store(at, size)
  local held = call('HMGET', $MESSAGES, unpack(ARGV, at + 6, at + 5 + size))
  local front, back = ARGV[at] .. string.format('%016.0f', now), ARGV[at + 1]
  local ids, fields, n = {}, {}, 0
  local start = front .. back
  for i = 1, size do
    if not held[i] then
      n = n + 1
      local id = ARGV[at + 5 + i]
      ids[n], fields[2 * n - 1], fields[2 * n] = id, id, start .. ARGV[at + 5 + size + i]
    end
  end
  if n > 0 then call('HSET', $MESSAGES, unpack(fields)) end
  return ids
end

-- Insert all groups from ARGV[AT] on; with TO only those before ARGV[TO].
local function insert(at, to)
  local has_revocations = call('EXISTS', $REVOKED_UNHELD) == 1
  local priority, ready = nil, {}
  while ARGV[at] and (not to or at < to) do
    local size = tonumber(ARGV[at + 5])
    local ids = store(at, size)
    if #ids > 0 then
      if has_revocations then apply_revocations(ids) end
      call('HINCRBY', $PENDING, text(minute) .. ':' .. ARGV[at + 4], #ids)
      local eta = due_in(ARGV[at + 3])
      if eta and tonumber(eta) > now then
        schedule(ids, eta)
      elseif priority == tonumber(ARGV[at + 2]) then
        for _, id in ipairs(ids) do ready[#ready + 1] = id end
      else
        if priority then append_ready(priority, now, ready) end
        priority, ready = tonumber(ARGV[at + 2]), ids
      end
    end
    at = at + 6 + 2 * size
  end
  if priority then
    append_ready(priority, now, ready)
    if call('HGET', $CONTROL, 'paused') ~= '1' then wake('o', 'r') end
  end
end
