-- name: temporary_shared
-- (SQLite) What tasks share, beside sqlite/turn.sql: the steps of a turn, of an enqueue and of what is put back that only tasks with terms
-- need. A turn asks once whether there are any such tasks (two looks at indexes that are empty else); the rest is not run without.
--
-- A limit: of the tasks of a key that are due, the best are 'queued', as many as the limit leaves beside what runs; the others are 'blocked'
-- and in no index that a claim looks at. Whoever changes what a key has due or running names the key in `touched`, and levels it.

CREATE TEMP TABLE touched (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE levelling (queue INTEGER, key TEXT);
CREATE TEMP TABLE gate (queue INTEGER, key TEXT, room INTEGER);
CREATE TEMP TABLE best (id TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TEMP TRIGGER level AFTER INSERT ON levelling BEGIN
    INSERT INTO gate (queue, key, room)
    SELECT NEW.queue, NEW.key,
           at_most - (SELECT count(*) FROM huey_task INDEXED BY huey_limit
                       WHERE queue = NEW.queue AND limit_key = NEW.key AND finished IS NULL AND state = 'running')
      FROM huey_task INDEXED BY huey_limit
     WHERE queue = NEW.queue AND limit_key = NEW.key AND finished IS NULL AND state = 'blocked' AND due IS NULL
     ORDER BY priority DESC, place, id LIMIT 1;
    DELETE FROM levelling;
END;

CREATE TEMP TRIGGER let_in AFTER INSERT ON gate BEGIN
    DELETE FROM best;
    INSERT INTO best (id)
    SELECT id FROM (
        SELECT id, priority, place FROM huey_task INDEXED BY huey_limit
         WHERE queue = NEW.queue AND limit_key = NEW.key AND finished IS NULL AND state = 'queued' AND due IS NULL
        UNION ALL
        SELECT id, priority, place FROM (
            SELECT id, priority, place FROM huey_task INDEXED BY huey_limit
             WHERE queue = NEW.queue AND limit_key = NEW.key AND finished IS NULL AND state = 'blocked' AND due IS NULL
             ORDER BY priority DESC, place, id LIMIT max(NEW.room, 0)))
     ORDER BY priority DESC, place, id LIMIT max(NEW.room, 0);
    UPDATE huey_task SET state = 'blocked'
     WHERE queue = NEW.queue
       AND id IN (SELECT id FROM huey_task INDEXED BY huey_limit
                   WHERE queue = NEW.queue AND limit_key = NEW.key AND finished IS NULL AND state = 'queued' AND due IS NULL
                     AND id NOT IN (SELECT id FROM best));
    UPDATE huey_task SET state = 'queued' WHERE queue = NEW.queue AND state = 'blocked' AND id IN (SELECT id FROM best);
    DELETE FROM gate;
END;

-- The steps of a turn: before ends are written, between ends and claim, after the claim.
CREATE TEMP TABLE shared (queue INTEGER);
CREATE TEMP TABLE between_ends_and_claim (queue INTEGER);
CREATE TEMP TABLE after_claim (queue INTEGER);

CREATE TEMP TRIGGER share AFTER INSERT ON shared BEGIN
    DELETE FROM touched;
    INSERT OR IGNORE INTO touched (key)
    SELECT t.limit_key FROM done AS d CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = d.id WHERE t.limit_key IS NOT NULL;
    INSERT OR IGNORE INTO touched (key)
    SELECT t.limit_key FROM fate AS f CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = f.id WHERE t.limit_key IS NOT NULL;
END;

CREATE TEMP TRIGGER share_out AFTER INSERT ON between_ends_and_claim BEGIN
    -- What became due waits until it is among the best.
    INSERT OR IGNORE INTO touched (key)
    SELECT t.limit_key FROM promoted AS p CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = p.id WHERE t.limit_key IS NOT NULL;
    UPDATE huey_task SET state = 'blocked'
     WHERE queue = NEW.queue AND +state = 'queued' AND +due IS NULL AND +limit_key IS NOT NULL
       AND id IN (SELECT id FROM fate UNION ALL SELECT id FROM promoted);
    -- Unique keys: what ended gives its key up, what goes back takes it again.
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND finished IS NOT NULL AND +unique_key IS NOT NULL
       AND id IN (SELECT id FROM fate UNION ALL SELECT id FROM done);
    UPDATE OR IGNORE huey_task SET unique_key = wish
     WHERE queue = NEW.queue AND finished IS NULL AND +wish IS NOT NULL AND unique_key IS NULL AND id IN (SELECT id FROM fate);
    INSERT INTO levelling (queue, key) SELECT NEW.queue, key FROM touched;
    DELETE FROM touched;
    DELETE FROM between_ends_and_claim;
END;

CREATE TEMP TRIGGER share_on AFTER INSERT ON after_claim BEGIN
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND +unique_key IS NOT NULL AND id IN (SELECT id FROM claimed)
       AND (finished IS NOT NULL OR NOT json_valid(options) OR json_extract(options, '$.constraints.unique[1]') = 'waiting');
    -- What was turned away lets others in.
    INSERT OR IGNORE INTO touched (key)
    SELECT t.limit_key FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE t.limit_key IS NOT NULL AND t.finished IS NOT NULL;
    INSERT INTO levelling (queue, key) SELECT NEW.queue, key FROM touched;
    DELETE FROM touched;
    DELETE FROM after_claim;
END;

-- Tasks with terms are put in one by one, in order: one may hold the key that the next one asks for.
CREATE TEMP TABLE met (id TEXT PRIMARY KEY, other TEXT) WITHOUT ROWID;
CREATE TEMP TABLE candidate (
    queue INTEGER, now INTEGER, id TEXT, name TEXT, payload BLOB, priority INTEGER, due INTEGER, expires INTEGER, retries INTEGER,
    retry_delay REAL, options TEXT, unique_key TEXT, unique_for, limit_key TEXT, at_most INTEGER, keep_id REAL, own INTEGER
);

CREATE TEMP TABLE again (queue INTEGER, id TEXT);

CREATE TEMP TRIGGER begin_again AFTER INSERT ON again BEGIN
    UPDATE huey_queue SET top_token = max(top_token, (SELECT token FROM huey_task WHERE queue = NEW.queue AND id = NEW.id))
     WHERE id = NEW.queue AND EXISTS (SELECT 1 FROM huey_task WHERE queue = NEW.queue AND id = NEW.id);
    DELETE FROM huey_task WHERE queue = NEW.queue AND id = NEW.id;
    DELETE FROM huey_result WHERE queue = NEW.queue AND id = NEW.id;
    DELETE FROM again;
END;

CREATE TEMP TRIGGER consider AFTER INSERT ON candidate BEGIN
    -- Because of whom it is not put in: itself, if its id is known, or who holds its key.
    INSERT OR IGNORE INTO met (id, other)
    SELECT NEW.id, id FROM huey_kept
     WHERE NEW.keep_id IS NOT NULL AND queue = NEW.queue AND kind = 'id' AND key = NEW.id AND expires > NEW.now;
    UPDATE huey_task SET unique_key = NULL
     WHERE queue = NEW.queue AND unique_key = NEW.unique_key AND +state IN ('queued', 'blocked') AND revoked_until NOT BETWEEN -NEW.now - 54000000000 AND NEW.now
       AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);
    INSERT OR IGNORE INTO met (id, other)
    SELECT NEW.id, id FROM huey_task WHERE queue = NEW.queue AND unique_key = NEW.unique_key;
    INSERT OR IGNORE INTO met (id, other)
    SELECT NEW.id, id FROM huey_kept WHERE queue = NEW.queue AND kind = 'unique' AND key = NEW.unique_key AND expires > NEW.now;

    -- An id that comes again: nothing is left of its former run, but that the new one begins above all tokens.
    INSERT INTO again (queue, id) SELECT NEW.queue, NEW.id WHERE NEW.own IS NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);

    INSERT INTO huey_task
           (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload,
            revoked_until, revoked_once, unique_key, wish, limit_key, at_most, token)
    SELECT NEW.queue, NEW.id, NEW.name, CASE WHEN NEW.limit_key IS NOT NULL AND NEW.due IS NULL THEN 'blocked' ELSE 'queued' END,
           NEW.priority, NEW.now, NEW.due, NEW.expires, NEW.retries, NEW.retry_delay, NEW.options, NEW.now, NEW.payload, r.until, r.once,
           CASE WHEN typeof(NEW.unique_for) = 'text' THEN NEW.unique_key END,
           CASE WHEN typeof(NEW.unique_for) = 'text' THEN NEW.unique_key END, NEW.limit_key, NEW.at_most,
           CASE WHEN NEW.own IS NULL THEN 0 ELSE (SELECT top_token FROM huey_queue WHERE id = NEW.queue) END
      FROM (SELECT 1)
      -- A revocation of this very enqueue (e) goes before one of its id (i).
      LEFT JOIN (SELECT until, once FROM huey_revocation
                  WHERE queue = NEW.queue AND expires > NEW.now AND (kind, key) IN (VALUES ('i', NEW.id), ('e', NEW.own || ':' || NEW.id))
                  ORDER BY kind LIMIT 1) AS r
     WHERE NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);
    DELETE FROM huey_revocation
     WHERE queue = NEW.queue AND expires > NEW.now AND (kind, key) IN (VALUES ('i', NEW.id), ('e', NEW.own || ':' || NEW.id))
       AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);

    INSERT OR REPLACE INTO huey_kept (queue, kind, key, id, expires)
    SELECT NEW.queue, 'id', NEW.id, NEW.id, coalesce(NEW.due, NEW.now) + CAST(round(NEW.keep_id * 1000000) AS INTEGER)
     WHERE NEW.keep_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);
    INSERT OR REPLACE INTO huey_kept (queue, kind, key, id, expires)
    SELECT NEW.queue, 'unique', NEW.unique_key, NEW.id, NEW.now + CAST(round(NEW.unique_for * 1000000) AS INTEGER)
     WHERE typeof(NEW.unique_for) IN ('integer', 'real') AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);
    INSERT OR IGNORE INTO touched (key)
    SELECT NEW.limit_key WHERE NEW.limit_key IS NOT NULL AND NEW.due IS NULL AND NOT EXISTS (SELECT 1 FROM met WHERE id = NEW.id);
    DELETE FROM candidate;
END;

-- What goes back to the queue, in whatever way, takes its unique key again and waits for its limit.
CREATE TEMP TABLE back (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE came_back (queue INTEGER);

CREATE TEMP TRIGGER come_back AFTER INSERT ON came_back BEGIN
    UPDATE OR IGNORE huey_task SET unique_key = wish
     WHERE queue = NEW.queue AND +wish IS NOT NULL AND unique_key IS NULL AND id IN (SELECT id FROM back);
    INSERT INTO levelling (queue, key)
    SELECT DISTINCT NEW.queue, t.limit_key FROM back AS b CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = b.id
     WHERE t.limit_key IS NOT NULL;
    DELETE FROM came_back;
END;

-- Give back tasks that never started, some of them with terms.
CREATE TEMP TABLE giving_back (queue INTEGER, worker TEXT, leases TEXT);

CREATE TEMP TRIGGER give_back AFTER INSERT ON giving_back BEGIN
    DELETE FROM back;
    INSERT OR IGNORE INTO back (id)
    SELECT t.id FROM json_each(NEW.leases) AS l CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = json_extract(l.value, '$[0]')
     WHERE t.state = 'running' AND t.worker = NEW.worker AND t.token = json_extract(l.value, '$[1]');
    UPDATE huey_task SET state = CASE WHEN limit_key IS NULL THEN 'queued' ELSE 'blocked' END, worker = NULL, lost_by = NULL
     WHERE queue = NEW.queue AND id IN (SELECT id FROM back);
    INSERT INTO came_back (queue) VALUES (NEW.queue);
    DELETE FROM giving_back;
END;

-- Put ended tasks back, as new; what an earlier run left as their results goes.
CREATE TEMP TABLE rerun (queue INTEGER, now INTEGER, ids TEXT);

CREATE TEMP TRIGGER run_again AFTER INSERT ON rerun BEGIN
    DELETE FROM back;
    INSERT INTO back (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(NEW.ids));
    DELETE FROM huey_result WHERE queue = NEW.queue AND id IN (SELECT id FROM back);
    UPDATE huey_task
       SET state = CASE WHEN limit_key IS NULL THEN 'queued' ELSE 'blocked' END,
           place = NEW.now, due = NULL, attempt = 0, crashes = 0, deaths = 0, parked = NULL, worker = NULL, finished = NULL,
           reason = NULL, error = NULL, revoked_until = NULL, revoked_once = NULL, expires = NULL,
           options = CASE WHEN json_valid(options) AND json_type(options, '$.asked') IS NOT NULL THEN json_remove(options, '$.asked')
                          ELSE options END
     WHERE queue = NEW.queue AND id IN (SELECT id FROM back);
    INSERT INTO came_back (queue) VALUES (NEW.queue);
    DELETE FROM rerun;
END;

-- name: met
-- Tasks that were not put in, and why: who holds their unique key, or themselves.
SELECT id, other FROM met;

-- name: release_shared
-- Give back tasks of which some have terms; the trigger `give_back` does it.
INSERT INTO giving_back VALUES (:queue, :worker, :leases);

-- name: retry
-- Put ended tasks back, as new; the trigger `run_again` does it.
INSERT INTO rerun VALUES (:queue, :now, :ids);

-- name: discard_kept
-- An ended task that is removed leaves no trace of its id.
DELETE FROM huey_kept WHERE queue = :queue AND kind = 'id' AND key IN
    (SELECT id FROM huey_task
      WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids)));

-- name: drop_kept
-- Nor does one that waits and is removed.
DELETE FROM huey_kept WHERE queue = :queue AND kind = 'id' AND key IN
    (SELECT id FROM huey_task WHERE queue = :queue AND state IN ('queued', 'blocked') AND (due IS NOT NULL AND parked IS NULL) = :scheduled);

-- name: prune_kept
-- Keys and ids past their time.
DELETE FROM huey_kept WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_kept WHERE queue = :queue AND expires <= :now LIMIT 500);

-- name: lock_take
-- Take a lock that nobody holds; a run of a task has to be leased.
INSERT OR REPLACE INTO huey_lock (queue, name, holder, run, boot, until, ends)
SELECT :queue, :name, :holder, :run, :boot, :until, :ends
 WHERE NOT EXISTS (SELECT 1 FROM huey_holding
                    WHERE queue = :queue AND name = :name AND until > :clock AND substr(boot, 1, length(:boot)) = :boot)
   AND (:run = 0 OR EXISTS (SELECT 1 FROM huey_task AS t CROSS JOIN huey_worker AS w ON w.id = t.worker
                             WHERE t.queue = :queue AND t.id = :holder AND t.state = 'running' AND t.token = :run
                               AND w.until > :clock AND substr(w.boot, 1, length(:boot)) = :boot));

-- name: lock_find
-- Who holds a lock.
SELECT token, holder, run FROM huey_holding
 WHERE queue = :queue AND name = :name AND until > :clock AND substr(boot, 1, length(:boot)) = :boot;

-- name: lock_renew
-- Keep the locks of a process.
UPDATE huey_lock SET until = :until
 WHERE queue = :queue AND holder = :holder AND run = 0 AND until > :clock AND boot = :boot AND (ends IS NULL OR ends > :clock);

-- name: lock_give_up
-- Free a lock that is still held under that token.
DELETE FROM huey_lock
 WHERE queue = :queue AND name = :name AND token = :token
   AND EXISTS (SELECT 1 FROM huey_holding
                WHERE queue = :queue AND name = :name AND until > :clock AND substr(boot, 1, length(:boot)) = :boot);

-- name: locks_held
-- All locks that are held, or those of some names.
SELECT name, token FROM huey_holding
 WHERE queue = :queue AND until > :clock AND substr(boot, 1, length(:boot)) = :boot
   AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)));

-- name: locks_free
-- Free locks, whoever holds them.
DELETE FROM huey_lock WHERE queue = :queue AND token IN (SELECT value FROM json_each(:tokens));

-- name: prune_locks
-- Locks whose holders are gone.
DELETE FROM huey_lock WHERE queue = :queue AND token IN
    (SELECT l.token FROM huey_lock AS l
      WHERE l.queue = :queue
        AND NOT EXISTS (SELECT 1 FROM huey_holding AS h
                         WHERE h.token = l.token AND h.until > :clock AND substr(h.boot, 1, length(:boot)) = :boot)
      LIMIT 500);

-- name: rate_take
-- Count one use in a window, unless it is full.
INSERT INTO huey_rate (queue, name, start, ends, used) SELECT :queue, :name, :start, :ends, 1 WHERE :limit > 0
ON CONFLICT (queue, name) DO UPDATE
   SET used = CASE WHEN start < excluded.start THEN 1 ELSE used + 1 END,
       ends = CASE WHEN start < excluded.start THEN excluded.ends ELSE ends END,
       start = max(start, excluded.start)
 WHERE :limit > 0 AND (start < excluded.start OR used < :limit);

-- name: rate_count
-- Count one use in a window that was refused.
INSERT INTO huey_rate (queue, name, start, ends, used) VALUES (:queue, :name, :start, :ends, 1)
ON CONFLICT (queue, name) DO UPDATE
   SET used = CASE WHEN start < excluded.start THEN 1 ELSE used + 1 END,
       ends = CASE WHEN start < excluded.start THEN excluded.ends ELSE ends END,
       start = max(start, excluded.start);

-- name: rate_usage
-- Uses in a window, those that were refused too.
SELECT used FROM huey_rate WHERE queue = :queue AND name = :name AND start >= :start;

-- name: rate_forget
-- Nothing was used.
DELETE FROM huey_rate WHERE queue = :queue AND name = :name;

-- name: prune_rates
-- Windows that are over.
DELETE FROM huey_rate WHERE queue = :queue AND name IN (SELECT name FROM huey_rate WHERE queue = :queue AND ends <= :now LIMIT 500);
