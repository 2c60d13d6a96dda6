-- name: temporary_constraints
-- (SQLite) Constraints of tasks (unique keys, concurrency limits, rates, reserved ids): the steps of enqueue, turn, release and retry that only
-- constrained tasks need. A turn asks once whether there are any, by two indexes that are empty otherwise, and skips the rest if not.
--
-- A concurrency limit: of the due tasks of a key, the best ones are 'queued', as many as the limit leaves beside those that run. The others
-- are 'blocked', where no claim sees them. Each step that changes which tasks of a key are due or running writes the key into
-- `touched_keys`, and rebalances it before it ends. docs/internals/concurrency-limits.md has an example. A rate is kept in the same way: it
-- leaves as much room as its window has uses left. A claim spends them.
CREATE TEMP VIEW rated AS
SELECT queue, id, state, concurrency_key AS key, json_extract(options, '$.constraints.rate[0]') AS most,
       nullif(CAST(json_extract(options, '$.constraints.rate[1]') AS INTEGER), 0) AS length
  FROM huey_task
 WHERE concurrency_key IS NOT NULL AND json_valid(options) AND json_type(options, '$.constraints.rate[0]') = 'integer';

CREATE TEMP VIEW limited AS
SELECT queue, concurrency_key AS key, state, priority, ready_at, id, max_running
  FROM huey_task INDEXED BY huey_concurrency
 WHERE concurrency_key IS NOT NULL AND finished IS NULL AND due IS NULL;

-- Rebalance one key: compute its room, then queue the best tasks. The best blocked task says how many may run. Without a blocked task there
-- is nothing to do: the limit is not exceeded, and nothing could fill its room.
CREATE TEMP TABLE touched_keys (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE rebalance_request (queue INTEGER, key TEXT);
CREATE TEMP TABLE limit_room (queue INTEGER, key TEXT, room INTEGER, queued INTEGER, is_ordered INTEGER);
CREATE TEMP TABLE best_tasks (id TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TEMP TRIGGER rebalance AFTER INSERT ON rebalance_request BEGIN
    INSERT INTO limit_room (queue, key, room, queued, is_ordered)
    SELECT NEW.queue, NEW.key,
           min(coalesce(b.max_running - (SELECT count(*) FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'running'),
                        $RATE_AHEAD),
               coalesce(r.most - coalesce((SELECT used FROM huey_window WHERE queue = NEW.queue AND key = NEW.key), 0),
                        b.max_running, $RATE_AHEAD)),
           (SELECT count(*) FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'queued'),
           coalesce((SELECT (-w.priority, w.ready_at, w.id) < (-b.priority, b.ready_at, b.id)
                       FROM limited AS w WHERE queue = NEW.queue AND key = NEW.key AND state = 'queued'
                      ORDER BY w.priority, w.ready_at DESC, w.id DESC LIMIT 1), 1)
      FROM (SELECT * FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'blocked'
             ORDER BY priority DESC, ready_at, id LIMIT 1) AS b
      LEFT JOIN rated AS r ON r.queue = NEW.queue AND r.id = b.id;
    -- The best task that is still blocked says when the window ends: an earlier one may have had another rate.
    UPDATE huey_window
       SET is_awaited = EXISTS (SELECT 1 FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'blocked'),
           ends = coalesce((SELECT start - start % r.length + r.length FROM rated AS r
                             WHERE r.queue = NEW.queue
                               AND r.id = (SELECT id FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'blocked'
                                            ORDER BY priority DESC, ready_at, id LIMIT 1)), ends)
     WHERE queue = NEW.queue AND key = NEW.key;
    DELETE FROM rebalance_request;
END;

-- All queued tasks of the key are better than the blocked ones: fill the room.
CREATE TEMP TRIGGER fill_room AFTER INSERT ON limit_room WHEN NEW.is_ordered AND NEW.queued <= NEW.room BEGIN
    UPDATE huey_task SET state = 'queued'
     WHERE queue = NEW.queue
       AND id IN (SELECT id FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'blocked'
                   ORDER BY priority DESC, ready_at, id LIMIT NEW.room - NEW.queued);
    DELETE FROM limit_room;
END;

-- Otherwise: of the tasks of the key that are queued or blocked, make the best `room` queued and the others blocked.
CREATE TEMP TRIGGER apply_limit AFTER INSERT ON limit_room WHEN NOT (NEW.is_ordered AND NEW.queued <= NEW.room) BEGIN
    DELETE FROM best_tasks;
    INSERT INTO best_tasks (id)
    SELECT id FROM (
        SELECT id, priority, ready_at FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'queued'
        UNION ALL
        SELECT id, priority, ready_at FROM (
            SELECT id, priority, ready_at FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'blocked'
             ORDER BY priority DESC, ready_at, id LIMIT max(NEW.room, 0)))
     ORDER BY priority DESC, ready_at, id LIMIT max(NEW.room, 0);
    UPDATE huey_task SET state = 'blocked'
     WHERE queue = NEW.queue
       AND id IN (SELECT id FROM limited WHERE queue = NEW.queue AND key = NEW.key AND state = 'queued'
                     AND id NOT IN (SELECT id FROM best_tasks));
    UPDATE huey_task SET state = 'queued' WHERE queue = NEW.queue AND state = 'blocked' AND id IN (SELECT id FROM best_tasks);
    DELETE FROM limit_room;
END;

-- The steps of a turn with constrained tasks: before its finishes are written, between finishes and claim, after the claim. The row of
-- `constrained_turn` stays until the turn is over: it tells the turn to take the other two steps.
CREATE TEMP TABLE constrained_turn (queue INTEGER);
CREATE TEMP TABLE before_claim_step (queue INTEGER, now INTEGER);
CREATE TEMP TABLE after_claim_step (queue INTEGER, now INTEGER);

CREATE TEMP TRIGGER constraints_before_finish AFTER INSERT ON constrained_turn BEGIN
    DELETE FROM touched_keys;
    INSERT OR IGNORE INTO touched_keys (key)
    SELECT t.concurrency_key FROM successes AS d CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = d.id
     WHERE t.concurrency_key IS NOT NULL;
    INSERT OR IGNORE INTO touched_keys (key)
    SELECT t.concurrency_key FROM other_finishes AS f CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = f.id
     WHERE t.concurrency_key IS NOT NULL;
END;

CREATE TEMP TRIGGER constraints_before_claim AFTER INSERT ON before_claim_step BEGIN
    -- Tasks that became due are blocked until they are among the best of their key.
    INSERT OR IGNORE INTO touched_keys (key)
    SELECT t.concurrency_key FROM promoted AS p CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = p.id
     WHERE t.concurrency_key IS NOT NULL;
    UPDATE huey_task SET state = 'blocked'
     WHERE queue = NEW.queue AND +state = 'queued' AND +due IS NULL AND +concurrency_key IS NOT NULL
       AND id IN (SELECT id FROM other_finishes UNION ALL SELECT id FROM promoted);
    -- Unique keys: a task that ended gives up its key, one that is queued again takes it again unless another task holds it.
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND finished IS NOT NULL AND +unique_key IS NOT NULL
       AND id IN (SELECT id FROM other_finishes UNION ALL SELECT id FROM successes);
    UPDATE OR IGNORE huey_task SET unique_key = wanted_key
     WHERE queue = NEW.queue AND finished IS NULL AND +wanted_key IS NOT NULL AND unique_key IS NULL
       AND id IN (SELECT id FROM other_finishes);
    INSERT INTO rebalance_request (queue, key) SELECT NEW.queue, key FROM touched_keys;
    DELETE FROM touched_keys;
    -- Windows for whose end tasks are blocked, and that are over.
    INSERT INTO touched_keys (key)
    SELECT key FROM huey_window WHERE queue = NEW.queue AND is_awaited = 1 AND ends <= NEW.now ORDER BY ends, key LIMIT $PROMOTE;
    DELETE FROM huey_window WHERE queue = NEW.queue AND key IN (SELECT key FROM touched_keys);
    INSERT INTO rebalance_request (queue, key) SELECT NEW.queue, key FROM touched_keys;
    DELETE FROM touched_keys;
    DELETE FROM before_claim_step;
END;

CREATE TEMP TRIGGER constraints_after_claim AFTER INSERT ON after_claim_step BEGIN
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND +unique_key IS NOT NULL AND id IN (SELECT id FROM claimed)
       AND (finished IS NOT NULL OR NOT json_valid(options) OR json_extract(options, '$.constraints.unique[1]') = 'waiting');
    -- Tasks that were claimed spend uses of their rates.
    INSERT INTO huey_window (queue, key, start, ends, used)
    SELECT NEW.queue, t.key, NEW.now - NEW.now % t.length, NEW.now - NEW.now % t.length + t.length, 1
      FROM claimed AS c CROSS JOIN rated AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE t.state = 'running' AND t.length IS NOT NULL
     ORDER BY c.n
    ON CONFLICT (queue, key) DO UPDATE
       SET used = CASE WHEN start < excluded.start THEN 1 ELSE used + 1 END,
           ends = CASE WHEN start < excluded.start THEN excluded.ends ELSE ends END,
           start = max(start, excluded.start);
    UPDATE huey_task SET spent = (SELECT start FROM huey_window AS w WHERE w.queue = NEW.queue AND w.key = huey_task.concurrency_key)
     WHERE queue = NEW.queue
       AND id IN (SELECT t.id FROM claimed AS c CROSS JOIN rated AS t ON t.queue = NEW.queue AND t.id = c.id WHERE t.length IS NOT NULL);
    -- Those that were cancelled at the claim make room for others, and the next ones of a rate become ready.
    INSERT OR IGNORE INTO touched_keys (key)
    SELECT t.concurrency_key FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE t.concurrency_key IS NOT NULL AND (t.finished IS NOT NULL OR t.spent IS NOT NULL);
    INSERT INTO rebalance_request (queue, key) SELECT NEW.queue, key FROM touched_keys;
    DELETE FROM touched_keys;
    DELETE FROM after_claim_step;
END;

-- Constrained tasks are inserted one by one, in order: each may hold the key that the next one wants. `duplicates`: those that were not
-- inserted, and the task that holds their key or id.
CREATE TEMP TABLE duplicates (id TEXT PRIMARY KEY, other TEXT) WITHOUT ROWID;
CREATE TEMP TABLE constrained_task (
    queue INTEGER, now INTEGER, id TEXT, name TEXT, payload BLOB, priority INTEGER, due INTEGER, expires INTEGER, retries INTEGER,
    retry_delay REAL, options TEXT, unique_key TEXT, unique_for, concurrency_key TEXT, max_running INTEGER, keep_id REAL, own INTEGER
);

-- Remove an ended task whose id is enqueued again; the new one starts above every token that the id ever had.
CREATE TEMP TABLE replace_request (queue INTEGER, id TEXT);

CREATE TEMP TRIGGER replace_ended AFTER INSERT ON replace_request BEGIN
    UPDATE huey_queue SET top_token = max(top_token, (SELECT token FROM huey_task WHERE queue = NEW.queue AND id = NEW.id))
     WHERE id = NEW.queue AND EXISTS (SELECT 1 FROM huey_task WHERE queue = NEW.queue AND id = NEW.id);
    DELETE FROM huey_task WHERE queue = NEW.queue AND id = NEW.id;
    DELETE FROM huey_result WHERE queue = NEW.queue AND id = NEW.id;
    DELETE FROM huey_edge WHERE child_queue = NEW.queue AND child = NEW.id;
    DELETE FROM replace_request;
END;

CREATE TEMP TRIGGER insert_constrained AFTER INSERT ON constrained_task BEGIN
    -- Find duplicates: the same id while it is reserved, then a task that holds the unique key. A revoked task that has not started gives
    -- up its key first.
    INSERT OR IGNORE INTO duplicates (id, other)
    SELECT NEW.id, id FROM huey_reservation
     WHERE NEW.keep_id IS NOT NULL AND queue = NEW.queue AND kind = 'id' AND key = NEW.id AND expires > NEW.now;
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND unique_key = NEW.unique_key AND +state IN ('queued', 'blocked', 'waiting')
       AND revoked_until NOT BETWEEN -NEW.now - 54000000000 AND NEW.now
       AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);
    INSERT OR IGNORE INTO duplicates (id, other)
    SELECT NEW.id, id FROM huey_task WHERE queue = NEW.queue AND unique_key = NEW.unique_key;
    INSERT OR IGNORE INTO duplicates (id, other)
    SELECT NEW.id, id FROM huey_reservation WHERE queue = NEW.queue AND kind = 'unique' AND key = NEW.unique_key AND expires > NEW.now;

    INSERT INTO replace_request (queue, id)
    SELECT NEW.queue, NEW.id WHERE NEW.own IS NOT NULL AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);

    INSERT INTO huey_task
           (queue, id, name, state, priority, ready_at, due, expires, retries, retry_delay, options, created, payload,
            revoked_until, revoked_once, unique_key, wanted_key, concurrency_key, max_running, token)
    SELECT NEW.queue, NEW.id, NEW.name, CASE WHEN NEW.concurrency_key IS NOT NULL AND NEW.due IS NULL THEN 'blocked' ELSE 'queued' END,
           NEW.priority, NEW.now, NEW.due, NEW.expires, NEW.retries, NEW.retry_delay, NEW.options, NEW.now, NEW.payload, r.until, r.once,
           CASE WHEN typeof(NEW.unique_for) = 'text' THEN NEW.unique_key END,
           CASE WHEN typeof(NEW.unique_for) = 'text' THEN NEW.unique_key END, NEW.concurrency_key, NEW.max_running,
           CASE WHEN NEW.own IS NULL THEN 0 ELSE (SELECT top_token FROM huey_queue WHERE id = NEW.queue) END
      FROM (SELECT 1)
      -- A revocation of this enqueue (kind e) overrides one of its id (kind i).
      LEFT JOIN (SELECT until, once FROM huey_revocation
                  WHERE queue = NEW.queue AND expires > NEW.now AND (kind, key) IN (VALUES ('i', NEW.id), ('e', NEW.own || ':' || NEW.id))
                  ORDER BY kind LIMIT 1) AS r
     WHERE NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);
    DELETE FROM huey_revocation
     WHERE queue = NEW.queue AND expires > NEW.now AND (kind, key) IN (VALUES ('i', NEW.id), ('e', NEW.own || ':' || NEW.id))
       AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);

    INSERT OR REPLACE INTO huey_reservation (queue, kind, key, id, expires)
    SELECT NEW.queue, 'id', NEW.id, NEW.id, coalesce(NEW.due, NEW.now) + CAST(round(NEW.keep_id * 1000000) AS INTEGER)
     WHERE NEW.keep_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);
    INSERT OR REPLACE INTO huey_reservation (queue, kind, key, id, expires)
    SELECT NEW.queue, 'unique', NEW.unique_key, NEW.id, NEW.now + CAST(round(NEW.unique_for * 1000000) AS INTEGER)
     WHERE typeof(NEW.unique_for) IN ('integer', 'real') AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);
    INSERT OR IGNORE INTO touched_keys (key)
    SELECT NEW.concurrency_key
     WHERE NEW.concurrency_key IS NOT NULL AND NEW.due IS NULL AND NOT EXISTS (SELECT 1 FROM duplicates WHERE id = NEW.id);
    DELETE FROM constrained_task;
END;

-- Tasks that were released or retried take their unique keys again, and their limits are rebalanced.
CREATE TEMP TABLE requeued (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE requeue_request (queue INTEGER);

CREATE TEMP TRIGGER after_requeue AFTER INSERT ON requeue_request BEGIN
    UPDATE OR IGNORE huey_task SET unique_key = wanted_key
     WHERE queue = NEW.queue AND +wanted_key IS NOT NULL AND unique_key IS NULL AND id IN (SELECT id FROM requeued);
    INSERT INTO rebalance_request (queue, key)
    SELECT DISTINCT NEW.queue, t.concurrency_key FROM requeued AS b CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = b.id
     WHERE t.concurrency_key IS NOT NULL;
    DELETE FROM requeue_request;
END;

-- Release tasks that never started, some of them constrained.
CREATE TEMP TABLE release_request (queue INTEGER, worker TEXT, leases TEXT);

CREATE TEMP TRIGGER do_release AFTER INSERT ON release_request BEGIN
    DELETE FROM requeued;
    INSERT OR IGNORE INTO requeued (id)
    SELECT t.id FROM json_each(NEW.leases) AS l CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = json_extract(l.value, '$[0]')
     WHERE t.state = 'running' AND t.worker = NEW.worker AND t.token = json_extract(l.value, '$[1]');
    UPDATE huey_window
       SET used = used - (SELECT count(*) FROM requeued AS b CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = b.id
                           WHERE t.concurrency_key = huey_window.key AND t.spent = huey_window.start)
     WHERE queue = NEW.queue
       AND key IN (SELECT t.concurrency_key FROM requeued AS b CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = b.id);
    UPDATE huey_task SET state = CASE WHEN concurrency_key IS NULL THEN 'queued' ELSE 'blocked' END, worker = NULL, crashed_worker = NULL
     WHERE queue = NEW.queue AND id IN (SELECT id FROM requeued);
    INSERT INTO requeue_request (queue) VALUES (NEW.queue);
    DELETE FROM release_request;
END;

-- Enqueue ended tasks again, as new; results of earlier runs are deleted.
CREATE TEMP TABLE retry_request (queue INTEGER, now INTEGER, ids TEXT);

CREATE TEMP TRIGGER do_retry AFTER INSERT ON retry_request BEGIN
    DELETE FROM requeued;
    INSERT INTO requeued (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(NEW.ids))
       AND (state = 'failed' OR reason IS NULL OR reason NOT IN ('parent failed', 'parent skipped'));
    DELETE FROM huey_result WHERE queue = NEW.queue AND id IN (SELECT id FROM requeued);
    UPDATE huey_task
       SET state = CASE WHEN concurrency_key IS NULL THEN 'queued' ELSE 'blocked' END,
           ready_at = NEW.now, due = NULL, attempt = 0, solo_crashes = 0, deaths = 0, unknown_until = NULL, worker = NULL, finished = NULL,
           reason = NULL, error = NULL, revoked_until = NULL, revoked_once = NULL, expires = NULL,
           options = CASE WHEN json_valid(options) AND json_type(options, '$.asked') IS NOT NULL THEN json_remove(options, '$.asked')
                          ELSE options END
     WHERE queue = NEW.queue AND id IN (SELECT id FROM requeued);
    INSERT INTO reopen_request (queue) SELECT NEW.queue WHERE EXISTS (SELECT 1 FROM huey_edge WHERE parent_queue = NEW.queue);
    INSERT INTO requeue_request (queue) VALUES (NEW.queue);
    DELETE FROM retry_request;
END;

-- name: duplicates
-- Tasks that the last enqueue did not insert: each with the task that holds its unique key, or with itself if its id is held.
SELECT id, other FROM duplicates;

-- name: release_constrained
-- Release tasks of which some are constrained: fires the trigger `do_release`.
INSERT INTO release_request VALUES (:queue, :worker, :leases);

-- name: retry
-- Enqueue ended tasks again: fires the trigger `do_retry`.
INSERT INTO retry_request VALUES (:queue, :now, :ids);

-- name: discard_reservations
-- Ids of ended tasks are no longer reserved once the tasks are discarded.
DELETE FROM huey_reservation WHERE queue = :queue AND kind = 'id' AND key IN
    (SELECT id FROM huey_task
      WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids)));

-- name: prune_windows
-- Remove windows of rates that are over and for whose end no task waits.
DELETE FROM huey_window WHERE queue = :queue AND key IN
    (SELECT key FROM huey_window WHERE queue = :queue AND ends <= :now AND is_awaited = 0 LIMIT $PRUNE);

-- name: prune_reservations
-- Remove reservations that have expired.
DELETE FROM huey_reservation WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_reservation WHERE queue = :queue AND expires <= :now LIMIT $PRUNE);
