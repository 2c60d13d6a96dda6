-- name: drop_edges
-- Delete what the parents of ended tasks gave them, before the tasks are deleted.
DELETE FROM huey_edge
 WHERE child_queue = :queue AND child IN (SELECT value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = child_queue AND t.id = child AND t.finished IS NULL);

-- name: flush_edges
-- Delete what was given to tasks of a queue that was flushed.
DELETE FROM huey_edge WHERE child_queue = :queue AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = child_queue AND t.id = child);

-- name: flush_parents
-- Its tasks were skipped, for children in other queues.
INSERT OR IGNORE INTO huey_ended_parent (queue, id, outcome)
SELECT parent_queue, parent, 'skipped' FROM huey_edge AS e
 WHERE parent_queue = :queue AND outcome IS NULL
   AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = e.parent_queue AND t.id = e.parent);

-- name: mend_parents
-- Tasks with unknown states, which have failed, for their children.
INSERT OR IGNORE INTO huey_ended_parent (queue, id, outcome, failed_queue, failed)
SELECT queue, id, 'failed', queue, id FROM huey_task AS t
 WHERE queue = :queue AND id > :after AND id <= :last AND state = 'failed' AND reason = 'undecodable'
   AND EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.parent_queue = t.queue AND e.outcome IS NULL AND e.parent = t.id);

-- name: orphans
-- Tasks that wait for none that can still end.
SELECT id FROM huey_task AS c
 WHERE queue = :queue AND id > :after AND id <= :last AND state = 'waiting'
   AND NOT EXISTS (SELECT 1 FROM huey_edge AS e
                    WHERE e.child_queue = c.queue AND e.child = c.id AND e.outcome IS NULL
                      AND (EXISTS (SELECT 1 FROM huey_task AS p WHERE p.queue = e.parent_queue AND p.id = e.parent AND p.finished IS NULL)
                           OR EXISTS (SELECT 1 FROM huey_ended_parent AS h WHERE h.queue = e.parent_queue AND h.id = e.parent)));

-- name: orphan_parents
-- They are skipped, for their own children.
INSERT OR IGNORE INTO huey_ended_parent (queue, id, outcome)
SELECT DISTINCT parent_queue, parent, 'skipped' FROM huey_edge
 WHERE parent_queue = :queue AND outcome IS NULL AND parent IN (SELECT value FROM json_each(:ids))
   AND EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = parent_queue AND t.id = parent AND t.reason = 'orphaned');

-- name: orphan_cancel
-- Cancel them.
UPDATE huey_task SET state = 'cancelled', reason = 'orphaned', finished = :now, unique_key = NULL
 WHERE queue = :queue AND state = 'waiting' AND id IN (SELECT value FROM json_each(:ids));
