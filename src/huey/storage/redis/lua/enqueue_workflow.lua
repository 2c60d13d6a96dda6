-- Enqueue a workflow, for this queue and others.
-- ARGV    1: now or ""  2: "1" if the caller has events that it did not send, "2" if it sent them, else "0"
--         3: sequence  4: its number for this enqueue  5: a plan, as parts/workflows.lua says  6..: its groups and events
-- Returns 1 if there is a follower and the events were not sent: nothing was written. Or 'held' or 'absent', and the tasks because of which
--         nothing was written (prefix and id in turns); or 'in', and holders of unique keys that stand for some of its tasks (prefix, id,
--         id of the holder in turns)
-- include: base lanes events stats values insert constraints missing edge_traces insert_constrained finishes edges workflows
local plan = plan_at(5, 6)
if ARGV[2] == '1' then
  for _, queue in ipairs(plan.queues) do
    if in_queue(queue[1], is_followed, queue[2]) then return 1 end
  end
end
if is_repeated(ARGV[3], ARGV[4]) then return saved_duplicates(ARGV[3], ARGV[4]) end
local how, found = put_workflow(plan, 6)
settle()
rebalance_touched()
if #found > 0 then save_duplicates(ARGV[3], ARGV[4], { how, found }) end
return { how, found }
