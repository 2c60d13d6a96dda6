-- name: temporary
-- (SQLite) What a worker's connection needs beside the schema: tables to stage what it brings, and triggers that do a whole verb.
--
-- A verb that touches several tables is ONE statement: an INSERT into a temp table fires a temp trigger. So the write lock of the file
-- lives inside one C call and never across two steps of Python, where a task that keeps the GIL would freeze every other process.
-- Staging takes no lock. An error anywhere undoes main and temp rows alike and leaves what was staged, so the verb can be sent again.
-- In a trigger: no WITH at the top, no RETURNING, no bound parameters, temp names that differ from all main names.

CREATE TEMP TABLE done (id TEXT PRIMARY KEY, token INTEGER, value BLOB) WITHOUT ROWID;
CREATE TEMP TABLE fate (
    id TEXT PRIMARY KEY, token INTEGER, state TEXT, due INTEGER, attempt INTEGER, crashes INTEGER, deaths INTEGER, parked INTEGER,
    reason TEXT, value BLOB, error TEXT
) WITHOUT ROWID;
CREATE TEMP TABLE refused (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE promoted (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE claimed (n INTEGER PRIMARY KEY, id TEXT);
CREATE TEMP TABLE barred (id TEXT PRIMARY KEY, kind TEXT, key TEXT) WITHOUT ROWID;
CREATE TEMP TABLE turn (
    queue INTEGER, worker TEXT, host TEXT, pid INTEGER, boot TEXT, born INTEGER, kind TEXT, keeper TEXT, now INTEGER, until INTEGER, want INTEGER,
    result_expires INTEGER, events TEXT
);

CREATE TEMP TRIGGER crank AFTER INSERT ON turn BEGIN
    DELETE FROM refused;
    DELETE FROM promoted;
    DELETE FROM claimed;
    DELETE FROM barred;

    -- The worker's lease, for all that it holds.
    INSERT INTO huey_worker (id, queue, host, pid, boot, born, kind, keeper, started, until)
    VALUES (NEW.worker, NEW.queue, NEW.host, NEW.pid, NEW.boot, NEW.born, NEW.kind, NEW.keeper, NEW.now, NEW.until)
    ON CONFLICT (id) DO UPDATE SET until = excluded.until;

    -- The fence: a finish counts only while its lease holds.
    INSERT INTO refused (id)
    SELECT d.id FROM done AS d
     WHERE NOT EXISTS (SELECT 1 FROM huey_task AS t
                        WHERE t.queue = NEW.queue AND t.id = d.id AND t.state = 'running' AND t.worker = NEW.worker AND t.token = d.token);
    INSERT OR IGNORE INTO refused (id)
    SELECT f.id FROM fate AS f
     WHERE NOT EXISTS (SELECT 1 FROM huey_task AS t
                        WHERE t.queue = NEW.queue AND t.id = f.id AND t.state = 'running' AND t.worker = NEW.worker AND t.token = f.token);
    DELETE FROM done WHERE id IN (SELECT id FROM refused);
    DELETE FROM fate WHERE id IN (SELECT id FROM refused);

    -- The ends of runs.
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM done WHERE value IS NOT NULL;
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM fate WHERE value IS NOT NULL;
    DELETE FROM huey_task WHERE queue = NEW.queue AND id IN (SELECT id FROM done);
    -- A cancelled running task never goes back to queued.
    UPDATE fate SET state = 'cancelled', reason = 'revoked'
     WHERE state = 'queued'
       AND EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = NEW.queue AND t.id = fate.id AND t.revoked_until > NEW.now);
    UPDATE huey_task
       SET state = f.state, worker = NULL, attempt = f.attempt, crashes = f.crashes, deaths = f.deaths, parked = f.parked,
           reason = f.reason, error = coalesce(f.error, huey_task.error),
           due = CASE WHEN f.state = 'queued' AND f.due > NEW.now THEN f.due END,
           place = CASE WHEN f.state = 'queued' THEN min(coalesce(f.due, NEW.now), NEW.now) ELSE huey_task.place END,
           finished = CASE WHEN f.state = 'queued' THEN NULL ELSE NEW.now END,
           revoked_until = CASE WHEN f.state <> 'queued' AND huey_task.revoked_once THEN NULL ELSE huey_task.revoked_until END
      FROM fate AS f
     WHERE huey_task.queue = NEW.queue AND huey_task.id = f.id AND huey_task.id IN (SELECT id FROM fate);

    -- What became due.
    INSERT INTO promoted (id)
    SELECT id FROM huey_task WHERE queue = NEW.queue AND state = 'queued' AND due <= NEW.now ORDER BY due LIMIT 500;
    UPDATE huey_task SET place = due, due = NULL WHERE queue = NEW.queue AND id IN (SELECT id FROM promoted);

    -- The best of what is ready: suspects first, for a worker that takes them.
    INSERT INTO claimed (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'queued' AND due IS NULL AND crashes > 0 AND NEW.kind IN ('solo', 'quarantine')
       AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = NEW.queue AND is_paused)
     ORDER BY priority DESC, place, id LIMIT NEW.want;
    INSERT INTO claimed (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'queued' AND due IS NULL AND crashes = 0 AND NEW.kind <> 'quarantine'
       AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = NEW.queue AND is_paused)
     ORDER BY priority DESC, place, id LIMIT NEW.want - (SELECT count(*) FROM claimed);

    -- Marks that stand apart: of a name, or of an id whose task came later. A task's own mark goes first; one for once bars the first task.
    INSERT OR IGNORE INTO barred (id, kind, key)
    SELECT t.id, r.kind, r.key
      FROM huey_revocation AS r CROSS JOIN claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE r.queue = NEW.queue AND r.until > NEW.now AND (r.expires IS NULL OR r.expires > NEW.now)
       AND r.key = CASE r.kind WHEN 'n' THEN t.name ELSE t.id END AND coalesce(t.revoked_until, 0) <= NEW.now
       AND (NOT r.once OR c.n = (SELECT min(c2.n) FROM claimed AS c2 CROSS JOIN huey_task AS t2 ON t2.queue = NEW.queue AND t2.id = c2.id
                                  WHERE r.key IN (t2.name, t2.id) AND coalesce(t2.revoked_until, 0) <= NEW.now));
    DELETE FROM huey_revocation
     WHERE queue = NEW.queue AND once
       AND EXISTS (SELECT 1 FROM barred AS b WHERE b.kind = huey_revocation.kind AND b.key = huey_revocation.key);
    UPDATE huey_task SET state = 'cancelled', reason = 'revoked', finished = NEW.now, worker = NEW.worker, token = token + 1
     WHERE queue = NEW.queue AND id IN (SELECT id FROM barred);

    -- Lease the others; what is revoked or expired ends here instead.
    UPDATE huey_task
       SET state = CASE WHEN revoked_until > NEW.now OR expires <= NEW.now THEN 'cancelled' ELSE 'running' END,
           reason = CASE WHEN revoked_until > NEW.now THEN 'revoked' WHEN expires <= NEW.now THEN 'expired' END,
           finished = CASE WHEN revoked_until > NEW.now OR expires <= NEW.now THEN NEW.now END,
           revoked_until = CASE WHEN revoked_once AND (revoked_until > NEW.now OR expires <= NEW.now) THEN NULL ELSE revoked_until END,
           worker = NEW.worker, token = token + 1
     WHERE queue = NEW.queue AND state = 'queued' AND id IN (SELECT id FROM claimed);

    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, NEW.events
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);

    DELETE FROM done;
    DELETE FROM fate;
    DELETE FROM turn;
END;

-- An enqueue that is told to followers. (Without any it needs no more than one plain INSERT.)
CREATE TEMP TABLE incoming (
    id TEXT PRIMARY KEY, name TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL,
    options TEXT
) WITHOUT ROWID;
CREATE TEMP TABLE arrival (queue INTEGER, now INTEGER, events TEXT);

CREATE TEMP TRIGGER admit AFTER INSERT ON arrival BEGIN
    INSERT OR IGNORE INTO huey_task
           (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload)
    SELECT NEW.queue, id, name, 'queued', priority, NEW.now, CASE WHEN eta > NEW.now THEN eta END, expires, retries, retry_delay, options,
           NEW.now, payload
      FROM incoming;
    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, NEW.events WHERE EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    DELETE FROM incoming;
    DELETE FROM arrival;
END;

CREATE TEMP TABLE fired (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE fire (
    queue INTEGER, name TEXT, tick INTEGER, now INTEGER,
    id TEXT, task TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL, options TEXT,
    events TEXT
);

CREATE TEMP TRIGGER strike AFTER INSERT ON fire BEGIN
    DELETE FROM fired;
    INSERT INTO fired (name)
    SELECT NEW.name WHERE NOT EXISTS (SELECT 1 FROM huey_periodic WHERE queue = NEW.queue AND name = NEW.name AND tick >= NEW.tick);
    INSERT OR IGNORE INTO huey_task
           (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload)
    SELECT NEW.queue, NEW.id, NEW.task, 'queued', NEW.priority, NEW.now, CASE WHEN NEW.eta > NEW.now THEN NEW.eta END, NEW.expires,
           NEW.retries, NEW.retry_delay, NEW.options, NEW.now, NEW.payload
      FROM fired WHERE NEW.id IS NOT NULL;
    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, NEW.events
      FROM fired
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    INSERT INTO huey_periodic (queue, name, tick, seen)
    SELECT NEW.queue, NEW.name, NEW.tick, NEW.now FROM fired WHERE true
    ON CONFLICT (queue, name) DO UPDATE SET tick = excluded.tick, seen = excluded.seen;
    DELETE FROM fire;
END;

CREATE TEMP TABLE taken (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE takeover (queue INTEGER, dead TEXT, seen INTEGER, worker TEXT);

CREATE TEMP TRIGGER inherit AFTER INSERT ON takeover BEGIN
    DELETE FROM taken;
    INSERT INTO taken (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'running' AND worker = NEW.dead
       AND EXISTS (SELECT 1 FROM huey_worker WHERE id = NEW.dead AND until = NEW.seen)
       AND EXISTS (SELECT 1 FROM huey_worker WHERE id = NEW.worker);
    UPDATE huey_task SET worker = NEW.worker, token = token + 1 WHERE queue = NEW.queue AND id IN (SELECT id FROM taken);
    -- Nothing that proves ownership goes before what it owned.
    DELETE FROM huey_worker
     WHERE id = NEW.dead AND until = NEW.seen AND NOT EXISTS (SELECT 1 FROM huey_task WHERE state = 'running' AND worker = NEW.dead);
    DELETE FROM takeover;
END;

CREATE TEMP TABLE grabbed (key TEXT PRIMARY KEY, expires INTEGER, value BLOB) WITHOUT ROWID;
CREATE TEMP TABLE grab (queue INTEGER, kind TEXT, keys TEXT);

CREATE TEMP TRIGGER gather AFTER INSERT ON grab BEGIN
    DELETE FROM grabbed;
    INSERT INTO grabbed (key, expires, value)
    SELECT id, expires, value FROM huey_result
     WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT value FROM json_each(NEW.keys));
    INSERT INTO grabbed (key, expires, value)
    SELECT key, expires, value FROM huey_mark
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT value FROM json_each(NEW.keys));
    DELETE FROM huey_result WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT key FROM grabbed);
    DELETE FROM huey_mark
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT key FROM grabbed);
    DELETE FROM grab;
END;
