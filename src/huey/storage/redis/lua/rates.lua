-- Rates: of each name the last window, "start used".
-- KEYS    1: the queue's prefix
-- ARGV    2: name  3: microseconds of a window
-- Returns nothing; a verb's script follows
local name, length = ARGV[2], tonumber(ARGV[3])
local start = now - math.fmod(now, length)

-- Its start, and uses in it.
local function last_window()
  local found = call('HGET', P .. 'rt', name)
  if not found then return nil, 0 end
  local began, used = string.match(found, '^(%S+) (%S+)$')
  if tonumber(began or '') then return tonumber(began), tonumber(used) or 0 end
  return nil, 0
end
