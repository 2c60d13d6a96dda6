-- Put tasks in; those that are held already stay as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "1" if the caller has events to tell that it did not send  3: channel  4: number of events, then the events,
--         then groups of records as insert.lua says
-- Returns 0, or 1 when somebody follows and the caller is to come again with its events: then nothing was written
local events = tonumber(ARGV[4])
if ARGV[2] == '1' then
  local by_reader, by_channel = is_followed(ARGV[3])
  if by_reader or by_channel then return 1 end
end
insert(5 + events)
tell(ARGV[3], 5, 4 + events)
return 0
