-- The windows of a rate: of each name the last one is kept, "start used".
-- ARGV    2: name  3: microseconds of a window
local name, length = ARGV[2], tonumber(ARGV[3])
local start = now - math.fmod(now, length)

-- Start of the last window, and hits in it.
local function last_window()
  local found = call('HGET', $RATES, name)
  if not found then return nil, 0 end
  local began, used = string.match(found, '^(%S+) (%S+)$')
  if tonumber(began or '') then return tonumber(began), tonumber(used) or 0 end
  return nil, 0
end
