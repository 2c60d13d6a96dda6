-- Enqueue tasks of which some have constraints, in order. A task whose id is held already is left out.
-- ARGV    1: now or ""  2: "1" if the caller has events that it did not send, "2" if it sent them, else "0"
--         3: channel  4: sequence  5: its number for this enqueue  6: number of events (0, or one for each record); then events; then
--         groups of one record, as parts/insert.lua says
-- Returns 0, or 1 if there is a follower, as enqueue.lua does; and the ids of duplicates, each with that of the task it duplicates
-- include: base lanes events insert values constraints edge_traces insert_constrained
local events = tonumber(ARGV[6])
local followed = ARGV[2] ~= '0' and is_followed(ARGV[3])
if followed and ARGV[2] == '1' then return { 1, {} } end
if is_repeated(ARGV[4], ARGV[5]) then return { followed and 1 or 0, saved_duplicates(ARGV[4], ARGV[5]) } end
local duplicates, to_publish, is_in, has_revocations = {}, {}, {}, call('EXISTS', $REVOKED_UNHELD) == 1
local number = 6
for at = 7 + events, #ARGV, 8 do
  local id, other = ARGV[at + 6]
  number = number + 1
  -- The first of several records with one id counts.
  if is_in[id] == nil then
    is_in[id], other = insert_constrained(at, has_revocations)
    if other then
      duplicates[#duplicates + 1] = id
      duplicates[#duplicates + 1] = other
    end
  end
  if events > 0 and is_in[id] then to_publish[#to_publish + 1] = number end
end
flush_constrained()
save_duplicates(ARGV[4], ARGV[5], duplicates)
for _, event in ipairs(to_publish) do publish_events(ARGV[3], event, event) end
return { followed and 1 or 0, duplicates }
