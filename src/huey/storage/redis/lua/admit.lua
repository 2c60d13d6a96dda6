-- Put tasks in of which some have terms, in order; those that are held already stay as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "1" if the caller has events to tell that it did not send, "2" if it sent them, else "0"
--         3: channel  4: number of events, then the events, then groups of one as insert.lua says
-- Returns 0, or 1 when somebody follows, as enqueue.lua does; and ids that were not put in, each with the one because of which
local events = tonumber(ARGV[4])
local by_reader, by_channel = false, false
if ARGV[2] ~= '0' then
  by_reader, by_channel = is_followed(ARGV[3])
  if (by_reader or by_channel) and ARGV[2] == '1' then return { 1, {} } end
end
local met, has_marks = {}, call('EXISTS', P .. 'ru') == 1
for at = 5 + events, #ARGV, 8 do
  local other = consider(at, has_marks)
  if other then
    met[#met + 1] = ARGV[at + 6]
    met[#met + 1] = other
  end
end
settle_in()
tell(ARGV[3], 5, 4 + events)
return { (by_reader or by_channel) and 1 or 0, met }
