-- Putting records in.
-- KEYS    1: the queue's prefix
-- ARGV    groups of records that differ in id and payload only, in order of id: flag, length and text of the head, priority, eta (or "+"
--         and microseconds from now, or ""), name, count, the ids, the payloads
-- Returns nothing; a verb's script follows
-- Whether that enqueue of a producer was done already, and is sent again since its answer was lost: its tasks may have ended meanwhile.
local function is_repeated(producer, number)
  return call('ZADD', P .. 'pr', 'GT', 'CH', number, producer) == 0
end

-- OWN: the enqueue that it is, where ids come again; a mark of that goes before one of its id.
local function hand_over_marks(ids, own)
  for _, id in ipairs(ids) do
    for _, field in ipairs({ id, own and of_enqueue(id, own) }) do
      local mark = kept_mark(call('HGET', P .. 'ru', field))
      if mark then
        call('HSET', P .. 'rv', id, mark)
        call('HDEL', P .. 'ru', field)
        call('ZREM', P .. 'ux', field)
      end
    end
  end
end

local function schedule(ids, eta)
  local pairs_of = {}
  for i, id in ipairs(ids) do
    pairs_of[2 * i - 1], pairs_of[2 * i] = eta, id
  end
  in_parts('ZADD', P .. 's', pairs_of, 4000)
  if string.sub(call('ZRANGE', P .. 's', 0, 0)[1], 1) == ids[1] then
    wake('o', 's')
    wake('u', 's')
  end
end

-- Messages of one group that are not held yet; their ids.
local function store(at, size)
  local held = call('HMGET', P .. 'm', unpack(ARGV, at + 6, at + 5 + size))
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
  if n > 0 then call('HSET', P .. 'm', unpack(fields)) end
  return ids
end

local function insert(at)
  local has_marks = call('EXISTS', P .. 'ru') == 1
  local priority, waiting = nil, {}
  while ARGV[at] do
    local size = tonumber(ARGV[at + 5])
    local ids = store(at, size)
    if #ids > 0 then
      if has_marks then hand_over_marks(ids) end
      call('HINCRBY', P .. 'n', text(minute) .. ':' .. ARGV[at + 4], #ids)
      local eta = due_in(ARGV[at + 3])
      if eta and tonumber(eta) > now then
        schedule(ids, eta)
      elseif priority == tonumber(ARGV[at + 2]) then
        for _, id in ipairs(ids) do waiting[#waiting + 1] = id end
      else
        if priority then push(priority, now, waiting) end
        priority, waiting = tonumber(ARGV[at + 2]), ids
      end
    end
    at = at + 6 + 2 * size
  end
  if priority then
    push(priority, now, waiting)
    if call('HGET', P .. 'c', 'paused') ~= '1' then wake('o', 'r') end
  end
end
