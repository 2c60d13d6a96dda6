-- Enqueue tasks without constraints. A task whose id is held already is left out.
-- ARGV    1: now or ""  2: "1" if the caller has events that it did not send, "2" if it sent them, else "0"
--         3: channel  4: sequence  5: its number for this enqueue  6: number of events; then events; then groups of records, as
--         parts/insert.lua says
-- Returns 0, or 1 if there is a follower: if the caller did not send its events nothing was written, and it repeats the call with them
-- include: base lanes events insert
local events = tonumber(ARGV[6])
local followed = ARGV[2] ~= '0' and is_followed(ARGV[3])
if followed and ARGV[2] == '1' then return 1 end
if is_repeated(ARGV[4], ARGV[5]) then return 0 end
insert(7 + events)
publish_events(ARGV[3], 7, 6 + events)
return followed and 1 or 0
