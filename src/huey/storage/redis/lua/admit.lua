-- Put tasks in of which some have terms, in order; those that are held already stay as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "1" if the caller has events to tell that it did not send, "2" if it sent them, else "0"
--         3: channel  4: producer  5: its number for this enqueue  6: number of events (0, or one for each record), then the events, then groups of one as insert.lua says
-- Returns 0, or 1 when somebody follows, as enqueue.lua does; and ids that were not put in, each with the one because of which
local events = tonumber(ARGV[6])
local followed = ARGV[2] ~= '0' and is_followed(ARGV[3])
if followed and ARGV[2] == '1' then return { 1, {} } end
if is_repeated(ARGV[4], ARGV[5]) then return { followed and 1 or 0, said_before(ARGV[4], ARGV[5]) } end
local met, told, is_in, has_marks = {}, {}, {}, call('EXISTS', P .. 'ru') == 1
local number = 6
for at = 7 + events, #ARGV, 8 do
  local id, other = ARGV[at + 6]
  number = number + 1
  -- Of one id the first counts.
  if is_in[id] == nil then
    is_in[id], other = consider(at, has_marks)
    if other then
      met[#met + 1] = id
      met[#met + 1] = other
    end
  end
  if events > 0 and is_in[id] then told[#told + 1] = number end
end
settle_in()
note_said(ARGV[4], ARGV[5], met)
for _, event in ipairs(told) do tell(ARGV[3], event, event) end
return { followed and 1 or 0, met }
