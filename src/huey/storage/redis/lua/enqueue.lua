-- Put tasks in; those that are held already stay as they are.
-- KEYS    1: the queue's prefix
-- ARGV    1: now or ""  2: "1" if the caller has events to tell that it did not send, "2" if it sent them, else "0"
--         3: channel  4: producer  5: its number for this enqueue  6: number of events, then the events, then groups of records as insert.lua says
-- Returns 0, or 1 when somebody follows; the caller is to come again with its events if it did not send them: then nothing was written
local events = tonumber(ARGV[6])
local followed = ARGV[2] ~= '0' and is_followed(ARGV[3])
if followed and ARGV[2] == '1' then return 1 end
if is_repeated(ARGV[4], ARGV[5]) then return 0 end
insert(7 + events)
tell(ARGV[3], 7, 6 + events)
return followed and 1 or 0
