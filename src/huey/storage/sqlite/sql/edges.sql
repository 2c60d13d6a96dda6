-- name: temporary_edges
-- (SQLite) Workflows: tasks that wait for others. A child is 'waiting' with a counter of its open parents; its edges (huey_edge) end in the
-- statement that ends their parent, whatever that is. A turn asks once whether there are edges, and skips the rest if not.
--
-- A step that ends tasks writes those with open edges into `ended_parent` and then settles: up to 1000 edges end, children are opened or
-- cancelled. Parents of which edges are left go into `huey_ended_parent`: the next turn settles them, of any queue, or a prune.

-- Tasks that end with this step, or have ended with an earlier one that left edges, and what they give.
CREATE TEMP TABLE ended_parent (
    queue INTEGER, id TEXT, outcome TEXT, failed_queue INTEGER, failed TEXT, error TEXT, value BLOB, PRIMARY KEY (queue, id)
) WITHOUT ROWID;
-- Values of finishes that are only for the children.
CREATE TEMP TABLE outputs (id TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
-- The steps of a turn with edges: before its finishes are written, after that, after the claim.
CREATE TEMP TABLE edge_turn (queue INTEGER, now INTEGER, keep INTEGER);
CREATE TEMP TABLE follow_up_step (now INTEGER);
CREATE TEMP TABLE edges_after_claim (queue INTEGER, now INTEGER);
-- Tasks that a turn opened, in order; and, without an id, whether it left edges for later ones.
CREATE TEMP TABLE opened (n INTEGER PRIMARY KEY, queue INTEGER, id TEXT);

CREATE TEMP TRIGGER edges_before_finish AFTER INSERT ON edge_turn BEGIN
    DELETE FROM opened;
    INSERT OR REPLACE INTO ended_parent (queue, id, outcome, value)
    SELECT NEW.queue, d.id, 'succeeded', coalesce((SELECT value FROM outputs AS o WHERE o.id = d.id), d.value)
      FROM successes AS d
     WHERE EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.parent_queue = NEW.queue AND e.parent = d.id AND e.outcome IS NULL);
    INSERT OR REPLACE INTO ended_parent (queue, id, outcome, failed_queue, failed, error)
    SELECT NEW.queue, id, CASE WHEN has_failed THEN 'failed' ELSE 'skipped' END, CASE WHEN has_failed THEN NEW.queue END,
           CASE WHEN has_failed THEN id END, CASE WHEN has_failed THEN error END
      FROM (SELECT f.id, f.error, f.state = 'failed' OR (f.state = 'cancelled' AND f.error IS NOT NULL AND f.reason IS NOT 'revoked') AS has_failed
              FROM other_finishes AS f
             WHERE f.state <> 'queued'
               AND EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.parent_queue = NEW.queue AND e.parent = f.id AND e.outcome IS NULL));
    -- What its parents gave goes with a row that goes or is kept by itself.
    DELETE FROM huey_edge
     WHERE child_queue = NEW.queue AND child IN (SELECT id FROM successes WHERE NOT NEW.keep OR id IN (SELECT id FROM kept));
END;

-- Enqueue the follow-ups of finishes that were written.
CREATE TEMP TRIGGER put_follow_ups_in AFTER INSERT ON follow_up_step BEGIN
    INSERT INTO workflow_request (follows, now)
    SELECT follows, NEW.now FROM (SELECT DISTINCT follows FROM workflow_task)
     WHERE follows IN (SELECT id FROM successes UNION ALL SELECT id FROM other_finishes);
    INSERT INTO settle_request (now) SELECT NEW.now WHERE EXISTS (SELECT 1 FROM ended_parent) OR EXISTS (SELECT 1 FROM huey_ended_parent);
    DELETE FROM follow_up_step;
END;

-- Tasks that were cancelled at the claim.
CREATE TEMP TRIGGER end_edges_of_cancelled AFTER INSERT ON edges_after_claim BEGIN
    INSERT OR REPLACE INTO ended_parent (queue, id, outcome)
    SELECT NEW.queue, t.id, 'skipped' FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE t.state = 'cancelled'
       AND EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.parent_queue = NEW.queue AND e.parent = t.id AND e.outcome IS NULL);
    INSERT INTO settle_request (now) SELECT NEW.now WHERE EXISTS (SELECT 1 FROM ended_parent);
    INSERT INTO opened (id) SELECT NULL WHERE EXISTS (SELECT 1 FROM huey_ended_parent WHERE queue = NEW.queue);
    DELETE FROM edges_after_claim;
    DELETE FROM edge_turn;
    DELETE FROM outputs;
    DELETE FROM workflow_task;
    DELETE FROM workflow_edge;
    DELETE FROM workflow_replacement;
END;

-- Settle: end up to 1000 edges of ended parents, through children that this cancels.
CREATE TEMP TABLE settle_request (now INTEGER);
CREATE TEMP TABLE ending (
    n INTEGER PRIMARY KEY, child_queue INTEGER, child TEXT, position INTEGER, parent_queue INTEGER, parent TEXT, kind TEXT, outcome TEXT,
    failed_queue INTEGER, failed TEXT, UNIQUE (child_queue, child, position)
);
CREATE TEMP TABLE ended_children (queue INTEGER, id TEXT, ended INTEGER, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TEMP TABLE cancelled_children (
    queue INTEGER, id TEXT, outcome TEXT, failed_queue INTEGER, failed TEXT, PRIMARY KEY (queue, id)
) WITHOUT ROWID;

-- Count children that were cancelled, as cancelled now and as enqueued when they were.
CREATE TEMP TABLE cancelled_request (now INTEGER);
CREATE TEMP TRIGGER count_cancelled_children AFTER INSERT ON cancelled_request BEGIN
    INSERT INTO huey_stats (queue, span, start, name, cancelled)
    SELECT c.queue, 60, NEW.now - NEW.now % 60000000, t.name, count(*)
      FROM cancelled_children AS c CROSS JOIN huey_task AS t ON t.queue = c.queue AND t.id = c.id
     GROUP BY c.queue, t.name
    ON CONFLICT (queue, span, start, name) DO UPDATE SET cancelled = cancelled + excluded.cancelled;
    INSERT INTO huey_stats (queue, span, start, name, enqueued)
    SELECT c.queue, 60, t.created - t.created % 60000000 AS minute, t.name, count(*)
      FROM cancelled_children AS c CROSS JOIN huey_task AS t ON t.queue = c.queue AND t.id = c.id
     GROUP BY c.queue, minute, t.name
    ON CONFLICT (queue, span, start, name) DO UPDATE SET enqueued = enqueued + excluded.enqueued;
    DELETE FROM cancelled_request;
END;

CREATE TEMP TRIGGER settle AFTER INSERT ON settle_request BEGIN
    INSERT OR IGNORE INTO ended_parent (queue, id, outcome, failed_queue, failed, error, value)
    SELECT queue, id, outcome, failed_queue, failed, error, value FROM huey_ended_parent;
    DELETE FROM ending;
    DELETE FROM ended_children;
    DELETE FROM cancelled_children;
    INSERT OR IGNORE INTO ending (child_queue, child, position, parent_queue, parent, kind, outcome, failed_queue, failed)
    SELECT child_queue, child, position, parent_queue, parent, kind, outcome, failed_queue, failed FROM (
        WITH RECURSIVE walk AS (
            SELECT e.child_queue, e.child, e.position, e.parent_queue, e.parent, e.kind, h.outcome, h.failed_queue, h.failed
              FROM ended_parent AS h
             CROSS JOIN huey_edge AS e ON e.parent_queue = h.queue AND e.parent = h.id AND e.outcome IS NULL
             UNION ALL
            SELECT e.child_queue, e.child, e.position, e.parent_queue, e.parent, e.kind, w.outcome, w.failed_queue, w.failed
              FROM walk AS w
             CROSS JOIN huey_task AS t ON t.queue = w.child_queue AND t.id = w.child AND t.state = 'waiting'
             CROSS JOIN huey_edge AS e ON e.parent_queue = w.child_queue AND e.parent = w.child AND e.outcome IS NULL
             WHERE w.kind = 'then' AND w.outcome <> 'succeeded'
             LIMIT 1000)
        SELECT * FROM walk);
    UPDATE huey_edge
       SET outcome = n.outcome, failed_queue = n.failed_queue, failed = n.failed,
           (value, error) = (SELECT h.value, CASE WHEN n.kind = 'join' THEN h.error END
                               FROM ended_parent AS h WHERE h.queue = n.parent_queue AND h.id = n.parent)
      FROM (SELECT * FROM ending LIMIT -1) AS n
     WHERE huey_edge.child_queue = n.child_queue AND huey_edge.child = n.child AND huey_edge.position = n.position;
    INSERT INTO ended_children (queue, id, ended) SELECT child_queue, child, count(*) FROM ending GROUP BY child_queue, child;
    UPDATE huey_task SET open_parents = open_parents - n.ended
      FROM (SELECT * FROM ended_children LIMIT -1) AS n
     WHERE huey_task.queue = n.queue AND huey_task.id = n.id AND huey_task.state = 'waiting';

    -- Cancel children of which a parent did not succeed, now or, after a retry by hand, before. The first cause is the one that the walk
    -- passed on to what follows them.
    INSERT OR IGNORE INTO cancelled_children (queue, id, outcome, failed_queue, failed)
    SELECT n.child_queue, n.child, n.outcome, n.failed_queue, n.failed
      FROM ending AS n CROSS JOIN huey_task AS t ON t.queue = n.child_queue AND t.id = n.child
     WHERE n.kind = 'then' AND n.outcome <> 'succeeded' AND t.state = 'waiting'
     ORDER BY n.n;
    INSERT OR IGNORE INTO cancelled_children (queue, id, outcome, failed_queue, failed)
    SELECT e.child_queue, e.child, e.outcome, e.failed_queue, e.failed
      FROM ended_children AS n
     CROSS JOIN huey_task AS t ON t.queue = n.queue AND t.id = n.id
     CROSS JOIN huey_edge AS e ON e.child_queue = n.queue AND e.child = n.id
     WHERE t.state = 'waiting' AND t.open_parents <= 0 AND e.kind = 'then' AND e.outcome <> 'succeeded';
    UPDATE huey_task
       SET state = 'cancelled', finished = NEW.now, unique_key = NULL, reason = CASE c.outcome WHEN 'failed' THEN 'parent failed' ELSE 'parent skipped' END,
           error = CASE c.outcome WHEN 'failed' THEN json_object('failed', json_array((SELECT name FROM huey_queue WHERE id = c.failed_queue), c.failed)) END,
           revoked_until = CASE WHEN revoked_once THEN NULL ELSE revoked_until END
      FROM cancelled_children AS c
     WHERE huey_task.queue = c.queue AND huey_task.id = c.id;
    INSERT INTO cancelled_request (now) VALUES (NEW.now);

    -- Open the children whose last parent has ended.
    INSERT INTO opened (queue, id)
    SELECT t.queue, t.id
      FROM ended_children AS n CROSS JOIN huey_task AS t ON t.queue = n.queue AND t.id = n.id
     WHERE t.state = 'waiting' AND t.open_parents <= 0;
    UPDATE huey_task
       SET state = CASE WHEN concurrency_key IS NOT NULL AND coalesce(due, 0) <= NEW.now THEN 'blocked' ELSE 'queued' END,
           ready_at = NEW.now, due = CASE WHEN due > NEW.now THEN due END,
           -- A relative expiry counts from here.
           expires = CASE WHEN expires IS NULL OR options IS NULL OR instr(options, '"expires_in"') = 0 THEN expires
                          ELSE max(NEW.now, coalesce(due, 0)) + coalesce(json_extract(options, '$.expires_in'), 0) END
      FROM (SELECT DISTINCT queue, id FROM opened) AS o
     WHERE huey_task.queue = o.queue AND huey_task.id = o.id AND huey_task.state = 'waiting';
    INSERT INTO rebalance_request (queue, key)
    SELECT DISTINCT t.queue, t.concurrency_key
      FROM ended_children AS n CROSS JOIN huey_task AS t ON t.queue = n.queue AND t.id = n.id
     WHERE t.concurrency_key IS NOT NULL AND t.state = 'blocked';

    -- Keep those whose edges have not all ended, and cancelled children among them. (If all succeeded, and were few, all have.)
    DELETE FROM ended_parent
     WHERE (SELECT count(*) FROM ending) < 1000 AND NOT EXISTS (SELECT 1 FROM ended_parent WHERE outcome <> 'succeeded');
    INSERT OR IGNORE INTO ended_parent (queue, id, outcome, failed_queue, failed)
    SELECT queue, id, outcome, failed_queue, failed FROM cancelled_children;
    DELETE FROM ended_parent
     WHERE NOT EXISTS (SELECT 1 FROM huey_edge AS e
                        WHERE e.parent_queue = ended_parent.queue AND e.outcome IS NULL AND e.parent = ended_parent.id);
    DELETE FROM huey_ended_parent WHERE (queue, id) NOT IN (SELECT queue, id FROM ended_parent);
    INSERT OR IGNORE INTO huey_ended_parent (queue, id, outcome, failed_queue, failed, error, value)
    SELECT queue, id, outcome, failed_queue, failed, error, value FROM ended_parent;
    DELETE FROM ended_parent;
    DELETE FROM settle_request;
END;

-- A workflow as it is staged: its tasks, in an order in which parents come first, and its edges. `follows`: the task with whose finish it is
-- enqueued; empty for an enqueue.
CREATE TEMP TABLE workflow_task (
    n INTEGER PRIMARY KEY, follows TEXT, queue INTEGER, id TEXT, name TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER,
    retries INTEGER, retry_delay REAL, options TEXT, event TEXT, UNIQUE (follows, queue, id)
);
CREATE TEMP TABLE workflow_edge (
    follows TEXT, child_queue INTEGER, child TEXT, position INTEGER, parent_queue INTEGER, parent TEXT, kind TEXT,
    PRIMARY KEY (follows, child_queue, child, position)
) WITHOUT ROWID;
CREATE TEMP TABLE workflow_replacement (
    follows TEXT, queue INTEGER, id TEXT, old_queue INTEGER, old TEXT, PRIMARY KEY (follows, queue, id)
) WITHOUT ROWID;
CREATE TEMP TABLE workflow_request (follows TEXT, now INTEGER);
-- What keeps a workflow from being enqueued: ids that are held; tasks outside it that were to be parents, or replaced, and have ended. Then those
-- tasks for which the holder of a unique key stands.
CREATE TEMP TABLE held (queue INTEGER, id TEXT, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TEMP TABLE not_held (queue INTEGER, id TEXT, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TEMP TABLE stand_ins (queue INTEGER, id TEXT, other TEXT, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TEMP TABLE workflow_insert (follows TEXT, now INTEGER);
CREATE TEMP TABLE workflow_queue (follows TEXT, queue INTEGER, now INTEGER);

CREATE TEMP TRIGGER check_workflow AFTER INSERT ON workflow_request BEGIN
    DELETE FROM held;
    DELETE FROM not_held;
    DELETE FROM stand_ins;
    INSERT INTO held (queue, id)
    SELECT w.queue, w.id FROM workflow_task AS w CROSS JOIN huey_task AS t ON t.queue = w.queue AND t.id = w.id
     WHERE w.follows = NEW.follows AND (t.finished IS NULL OR json_extract(w.options, '$.constraints.own') IS NULL);
    INSERT OR IGNORE INTO held (queue, id)
    SELECT w.queue, w.id FROM workflow_task AS w CROSS JOIN huey_reservation AS r ON r.queue = w.queue AND r.kind = 'id' AND r.key = w.id
     WHERE w.follows = NEW.follows AND r.expires > NEW.now AND json_extract(w.options, '$.constraints.keep_id') IS NOT NULL;
    INSERT OR IGNORE INTO not_held (queue, id)
    SELECT queue, id
      FROM (SELECT parent_queue AS queue, parent AS id FROM workflow_edge
             WHERE follows = NEW.follows AND (parent_queue, parent) NOT IN (SELECT queue, id FROM workflow_task WHERE follows = NEW.follows)
             UNION ALL
            SELECT old_queue, old FROM workflow_replacement WHERE follows = NEW.follows) AS o
     WHERE NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = o.queue AND t.id = o.id AND t.finished IS NULL);
    INSERT INTO workflow_insert (follows, now)
    SELECT NEW.follows, NEW.now WHERE NOT EXISTS (SELECT 1 FROM held) AND NOT EXISTS (SELECT 1 FROM not_held);
    DELETE FROM workflow_request;
END;

CREATE TEMP TRIGGER enqueue_for_workflow AFTER INSERT ON workflow_queue BEGIN
    INSERT INTO incoming (id, name, payload, priority, eta, expires, retries, retry_delay, options)
    SELECT id, name, payload, priority, eta, expires, retries, retry_delay, options
      FROM workflow_task WHERE follows = NEW.follows AND queue = NEW.queue ORDER BY n;
    INSERT INTO enqueue_request (queue, now, events, pairs)
    SELECT NEW.queue, NEW.now, NULL, (SELECT json_group_array(json_array(id, event))
                                         FROM (SELECT id, event FROM workflow_task
                                                WHERE follows = NEW.follows AND queue = NEW.queue AND event IS NOT NULL ORDER BY n));
    INSERT INTO stand_ins (queue, id, other) SELECT NEW.queue, id, other FROM duplicates;
END;

CREATE TEMP TRIGGER insert_workflow AFTER INSERT ON workflow_insert BEGIN
    -- 1. Insert the tasks, queue by queue, as an enqueue does.
    INSERT INTO workflow_queue (follows, queue, now)
    SELECT NEW.follows, queue, NEW.now FROM (SELECT DISTINCT queue FROM workflow_task WHERE follows = NEW.follows);
    DELETE FROM workflow_queue;

    -- 2. Holders of unique keys take the place of tasks as parents, not as children.
    DELETE FROM workflow_edge WHERE follows = NEW.follows AND (child_queue, child) IN (SELECT queue, id FROM stand_ins);
    UPDATE workflow_edge SET parent = s.other FROM stand_ins AS s
     WHERE workflow_edge.follows = NEW.follows AND workflow_edge.parent_queue = s.queue AND workflow_edge.parent = s.id;
    INSERT OR IGNORE INTO ended_parent (queue, id, outcome, value)
    SELECT DISTINCT e.parent_queue, e.parent, CASE WHEN r.value IS NULL THEN 'skipped' ELSE 'succeeded' END, r.value
      FROM workflow_edge AS e
      LEFT JOIN huey_result AS r ON r.queue = e.parent_queue AND r.id = e.parent AND (r.expires IS NULL OR r.expires > NEW.now)
                                AND NOT EXISTS (SELECT 1 FROM huey_task AS f WHERE f.queue = r.queue AND f.id = r.id AND f.state <> 'succeeded')
     WHERE e.follows = NEW.follows
       AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = e.parent_queue AND t.id = e.parent AND t.finished IS NULL);

    -- 3. Insert the edges, and let the children wait.
    INSERT OR REPLACE INTO huey_edge (child_queue, child, position, parent_queue, parent, kind)
    SELECT child_queue, child, position, parent_queue, parent, kind FROM workflow_edge WHERE follows = NEW.follows;
    UPDATE huey_task SET state = 'waiting', open_parents = n.parents
      FROM (SELECT child_queue, child, count(*) AS parents FROM workflow_edge WHERE follows = NEW.follows GROUP BY child_queue, child) AS n
     WHERE huey_task.queue = n.child_queue AND huey_task.id = n.child;

    -- 4. Replace tasks: their edges lead from and to the new ones.
    UPDATE huey_edge SET parent_queue = r.queue, parent = r.id FROM workflow_replacement AS r
     WHERE r.follows = NEW.follows AND huey_edge.parent_queue = r.old_queue AND huey_edge.outcome IS NULL AND huey_edge.parent = r.old;
    UPDATE OR REPLACE huey_edge SET child_queue = r.queue, child = r.id FROM workflow_replacement AS r
     WHERE r.follows = NEW.follows AND huey_edge.child_queue = r.old_queue AND huey_edge.child = r.old;
    UPDATE huey_task
       SET state = CASE o.state WHEN 'waiting' THEN 'waiting' ELSE huey_task.state END, open_parents = o.open_parents
      FROM workflow_replacement AS r CROSS JOIN huey_task AS o ON o.queue = r.old_queue AND o.id = r.old
     WHERE r.follows = NEW.follows AND huey_task.queue = r.queue AND huey_task.id = r.id;
    DELETE FROM cancelled_children;
    INSERT INTO cancelled_children (queue, id)
    SELECT DISTINCT t.queue, t.id FROM workflow_replacement AS r CROSS JOIN huey_task AS t ON t.queue = r.old_queue AND t.id = r.old
     WHERE r.follows = NEW.follows AND t.state = 'waiting';
    INSERT INTO cancelled_request (now) VALUES (NEW.now);
    UPDATE huey_task
       SET revoked_until = CASE huey_task.state WHEN 'waiting' THEN NULL ELSE 4611686018427387904 END, revoked_once = 0,
           state = CASE huey_task.state WHEN 'waiting' THEN 'cancelled' ELSE huey_task.state END,
           reason = CASE huey_task.state WHEN 'waiting' THEN 'revoked' ELSE huey_task.reason END,
           finished = CASE huey_task.state WHEN 'waiting' THEN NEW.now END,
           unique_key = CASE huey_task.state WHEN 'waiting' THEN NULL ELSE huey_task.unique_key END
      FROM (SELECT DISTINCT old_queue, old FROM workflow_replacement WHERE follows = NEW.follows) AS r
     WHERE huey_task.queue = r.old_queue AND huey_task.id = r.old;

    INSERT INTO rebalance_request (queue, key)
    SELECT DISTINCT t.queue, t.concurrency_key
      FROM (SELECT child_queue AS queue, child AS id FROM workflow_edge WHERE follows = NEW.follows
             UNION SELECT old_queue, old FROM workflow_replacement WHERE follows = NEW.follows
             UNION SELECT queue, id FROM workflow_replacement WHERE follows = NEW.follows) AS c
     CROSS JOIN huey_task AS t ON t.queue = c.queue AND t.id = c.id
     WHERE t.concurrency_key IS NOT NULL;
    DELETE FROM workflow_insert;
END;

-- An enqueue of a workflow: follows is ''.
CREATE TEMP TABLE workflow_enqueue_request (now INTEGER);
CREATE TEMP TRIGGER enqueue_workflow AFTER INSERT ON workflow_enqueue_request BEGIN
    INSERT INTO workflow_request (follows, now) VALUES ('', NEW.now);
    INSERT INTO settle_request (now) SELECT NEW.now WHERE EXISTS (SELECT 1 FROM ended_parent);
    DELETE FROM workflow_task;
    DELETE FROM workflow_edge;
    DELETE FROM workflow_replacement;
    DELETE FROM opened;
    DELETE FROM workflow_enqueue_request;
END;

-- Tasks that wait again, since a task because of which they were cancelled is retried by hand.
CREATE TEMP TABLE waiting_again (queue INTEGER, id TEXT, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TEMP TABLE reopen_request (queue INTEGER);
CREATE TEMP TRIGGER reopen_edges AFTER INSERT ON reopen_request BEGIN
    DELETE FROM waiting_again;
    INSERT OR IGNORE INTO waiting_again (queue, id)
    SELECT queue, id FROM (
        WITH RECURSIVE walk (queue, id) AS (
            SELECT NEW.queue, id FROM requeued
             UNION
            SELECT e.child_queue, e.child
              FROM walk AS w
             CROSS JOIN huey_edge AS e ON e.parent_queue = w.queue AND e.outcome IN ('failed', 'skipped') AND e.parent = w.id
             CROSS JOIN huey_task AS t ON t.queue = e.child_queue AND t.id = e.child
             WHERE e.kind = 'then' AND t.state = 'cancelled' AND t.reason IN ('parent failed', 'parent skipped'))
        SELECT * FROM walk);
    UPDATE huey_edge SET outcome = NULL, failed_queue = NULL, failed = NULL, error = NULL, value = NULL
      FROM (SELECT DISTINCT queue, id FROM waiting_again) AS a
     WHERE huey_edge.parent_queue = a.queue AND huey_edge.outcome IN ('failed', 'skipped') AND huey_edge.parent = a.id
       AND ((child_queue, child) IN (SELECT queue, id FROM waiting_again)
            OR EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = child_queue AND t.id = child AND t.state = 'waiting'));
    UPDATE huey_task SET state = 'waiting', reason = NULL, error = NULL, finished = NULL, revoked_until = NULL, revoked_once = NULL,
           expires = CASE WHEN instr(coalesce(options, ''), '"expires_in"') > 0 THEN expires END
      FROM (SELECT DISTINCT queue, id FROM waiting_again) AS a
     WHERE huey_task.queue = a.queue AND huey_task.id = a.id AND huey_task.state = 'cancelled'
       AND huey_task.reason IN ('parent failed', 'parent skipped');
    -- A join that is retried together with a task that it waits for.
    UPDATE huey_task SET state = 'waiting'
     WHERE queue = NEW.queue AND id IN (SELECT id FROM requeued)
       AND EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.child_queue = NEW.queue AND e.child = huey_task.id AND e.outcome IS NULL);
    UPDATE OR IGNORE huey_task SET unique_key = wanted_key
      FROM (SELECT DISTINCT queue, id FROM waiting_again) AS a
     WHERE huey_task.queue = a.queue AND huey_task.id = a.id AND huey_task.state = 'waiting' AND +huey_task.wanted_key IS NOT NULL
       AND huey_task.unique_key IS NULL;
    UPDATE huey_task
       SET open_parents = (SELECT count(*) FROM huey_edge AS e WHERE e.child_queue = huey_task.queue AND e.child = huey_task.id AND e.outcome IS NULL)
      FROM (SELECT DISTINCT e.child_queue, e.child FROM waiting_again AS a
             CROSS JOIN huey_edge AS e ON e.parent_queue = a.queue AND e.outcome IS NULL AND e.parent = a.id) AS c
     WHERE huey_task.queue = c.child_queue AND huey_task.id = c.child AND huey_task.state = 'waiting';
    DELETE FROM huey_ended_parent WHERE EXISTS (SELECT 1 FROM waiting_again AS a WHERE a.queue = huey_ended_parent.queue AND a.id = huey_ended_parent.id);
    DELETE FROM reopen_request;
END;

-- Drop tasks that wait for their time (`scheduled`), or those that are ready or blocked.
CREATE TEMP TABLE dropped (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE drop_request (queue INTEGER, scheduled INTEGER, now INTEGER);
CREATE TEMP TRIGGER drop_pending AFTER INSERT ON drop_request BEGIN
    DELETE FROM dropped;
    INSERT INTO dropped (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state IN ('queued', 'blocked') AND (due IS NOT NULL AND unknown_until IS NULL) = NEW.scheduled;
    UPDATE huey_queue
       SET top_token = max(top_token, coalesce((SELECT max(token) FROM huey_task WHERE queue = NEW.queue AND id IN (SELECT id FROM dropped)), 0))
     WHERE id = NEW.queue;
    INSERT OR REPLACE INTO ended_parent (queue, id, outcome)
    SELECT NEW.queue, d.id, 'skipped' FROM dropped AS d
     WHERE EXISTS (SELECT 1 FROM huey_edge AS e WHERE e.parent_queue = NEW.queue AND e.parent = d.id AND e.outcome IS NULL);
    DELETE FROM huey_edge WHERE child_queue = NEW.queue AND child IN (SELECT id FROM dropped);
    DELETE FROM huey_reservation WHERE queue = NEW.queue AND kind = 'id' AND key IN (SELECT id FROM dropped);
    DELETE FROM huey_task WHERE queue = NEW.queue AND id IN (SELECT id FROM dropped);
    UPDATE huey_window SET is_awaited = 0 WHERE queue = NEW.queue AND is_awaited = 1 AND NOT NEW.scheduled;
    INSERT INTO settle_request (now) SELECT NEW.now WHERE EXISTS (SELECT 1 FROM ended_parent);
    DELETE FROM opened;
    DELETE FROM drop_request;
END;

-- name: enqueue_workflow
-- Enqueue the staged workflow: fires the trigger `enqueue_workflow`.
INSERT INTO workflow_enqueue_request VALUES (?);

-- name: workflow_answer
-- What became of the last workflow: tasks that were not enqueued, with what stands for them, and tasks outside it that have ended.
SELECT 'held', (SELECT name FROM huey_queue WHERE id = h.queue), h.id, h.id FROM held AS h
UNION ALL SELECT 'stand in', (SELECT name FROM huey_queue WHERE id = s.queue), s.id, s.other FROM stand_ins AS s
UNION ALL SELECT 'not held', (SELECT name FROM huey_queue WHERE id = n.queue), n.id, n.id FROM not_held AS n;

-- name: settle
-- End edges that earlier steps left open: fires the trigger `settle`.
INSERT INTO settle_request VALUES (:now);

-- name: settle_left
-- Whether there are any.
SELECT 1 FROM huey_ended_parent LIMIT 1;

-- name: turn_opened
-- Tasks that waited for what the turn ended. One row without an id: edges are left for the next turn. Read once.
SELECT q.name, t.id, t.name, max(0, t.retries - t.attempt), t.retry_delay, t.due IS NOT NULL
  FROM opened AS o LEFT JOIN huey_task AS t ON t.queue = o.queue AND t.id = o.id LEFT JOIN huey_queue AS q ON q.id = o.queue
 ORDER BY o.n;

-- name: turn_opened_read
-- They were read.
DELETE FROM opened;

-- name: drop_pending
-- Delete pending tasks: fires the trigger `drop_pending`.
INSERT INTO drop_request VALUES (:queue, :scheduled, :now);

-- name: dropped
-- How many were deleted.
SELECT count(*) FROM dropped;

-- name: parent_ends
-- What the parents of a task gave it, up to 4 MiB and the value that passes that.
SELECT position, kind, outcome, value,
       CASE WHEN outcome = 'failed' THEN coalesce(e.error, (SELECT t.error FROM huey_task AS t WHERE t.queue = e.failed_queue AND t.id = e.failed)) END,
       (SELECT name FROM huey_queue WHERE id = coalesce(e.failed_queue, e.parent_queue)), coalesce(e.failed, e.parent)
  FROM huey_edge AS e
 WHERE child_queue = :queue AND child = :id AND position > :after AND outcome IS NOT NULL
   AND position <= (SELECT max(position)
                      FROM (SELECT position, sum(size) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                              FROM (SELECT position, length(value) AS size FROM huey_edge
                                     WHERE child_queue = :queue AND child = :id AND position > :after AND outcome IS NOT NULL
                                     ORDER BY position LIMIT 1000))
                     WHERE coalesce(before, 0) < 4194304)
 ORDER BY position;

-- name: edges
-- The edges from and to these tasks.
SELECT (SELECT name FROM huey_queue WHERE id = parent_queue), parent, (SELECT name FROM huey_queue WHERE id = child_queue), child, kind, position,
       outcome
  FROM (SELECT * FROM huey_edge WHERE child_queue = :queue AND child IN (SELECT value FROM json_each(:ids))
         UNION
        SELECT * FROM huey_edge WHERE parent_queue = :queue AND parent IN (SELECT value FROM json_each(:ids)))
 ORDER BY 3, child, position;
