-- name: temporary
-- (SQLite) What a worker's connection needs beside the schema: tables to stage what it brings, and triggers that do a whole verb.
--
-- A verb that touches several tables is ONE statement: an INSERT into a temp table fires a temp trigger. So the write lock of the file
-- lives inside one C call and never across two steps of Python, where a task that keeps the GIL would freeze every other process.
-- Staging takes no lock. An error anywhere undoes main and temp rows alike and leaves what was staged, so the verb can be sent again.
-- In a trigger: no WITH at the top, no RETURNING, no bound parameters, temp names that differ from all main names.

CREATE TEMP TABLE done (id TEXT PRIMARY KEY, token INTEGER, value BLOB, took INTEGER) WITHOUT ROWID;
CREATE TEMP TABLE fate (
    id TEXT PRIMARY KEY, token INTEGER, state TEXT, due INTEGER, attempt INTEGER, crashes INTEGER, deaths INTEGER, parked INTEGER,
    reason TEXT, value BLOB, error TEXT, took INTEGER, expires INTEGER, options TEXT
) WITHOUT ROWID;
-- Ends of runs, and of tasks that do not run, for the statistics.
CREATE TEMP TABLE ends (name TEXT, created INTEGER, state TEXT, took INTEGER);
CREATE TEMP TABLE refused (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE promoted (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE claimed (n INTEGER PRIMARY KEY, id TEXT);
CREATE TEMP TABLE barred (id TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
CREATE TEMP TABLE turn (
    queue INTEGER, worker TEXT, host TEXT, pid INTEGER, boot TEXT, born INTEGER, kind TEXT, keeper TEXT, now INTEGER,
    until INTEGER, want INTEGER, result_expires INTEGER, events TEXT, keep INTEGER,
    tally TEXT, top_token INTEGER, wall INTEGER
);

-- A view to write statistics through.
CREATE TEMP VIEW counted AS SELECT 0 AS at, * FROM huey_stat;

CREATE TEMP TRIGGER add_up INSTEAD OF INSERT ON counted BEGIN
    INSERT INTO huey_stat (
        queue, span, start, name, enqueued, succeeded, failed, retried, cancelled, took, longest,
        ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer)
    VALUES (
        NEW.queue, NEW.span, NEW.at - NEW.at % (NEW.span * 1000000), NEW.name, NEW.enqueued, NEW.succeeded, NEW.failed, NEW.retried,
        NEW.cancelled, NEW.took, NEW.longest, NEW.ms1, NEW.ms3, NEW.ms10, NEW.ms30, NEW.ms100, NEW.ms300, NEW.s1, NEW.s3, NEW.s10,
        NEW.s30, NEW.s100, NEW.s300, NEW.s1000, NEW.s3000, NEW.s10000, NEW.longer)
    ON CONFLICT (queue, span, start, name) DO UPDATE SET
        enqueued = enqueued + excluded.enqueued, succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        retried = retried + excluded.retried, cancelled = cancelled + excluded.cancelled, took = took + excluded.took,
        longest = max(longest, excluded.longest), ms1 = ms1 + excluded.ms1, ms3 = ms3 + excluded.ms3, ms10 = ms10 + excluded.ms10,
        ms30 = ms30 + excluded.ms30, ms100 = ms100 + excluded.ms100, ms300 = ms300 + excluded.ms300, s1 = s1 + excluded.s1,
        s3 = s3 + excluded.s3, s10 = s10 + excluded.s10, s30 = s30 + excluded.s30, s100 = s100 + excluded.s100,
        s300 = s300 + excluded.s300, s1000 = s1000 + excluded.s1000, s3000 = s3000 + excluded.s3000, s10000 = s10000 + excluded.s10000,
        longer = longer + excluded.longer;
END;

CREATE TEMP TABLE too_much (id TEXT);
CREATE TEMP TABLE weighing (queue INTEGER);

CREATE TEMP TRIGGER weigh AFTER INSERT ON weighing BEGIN
    INSERT INTO too_much (id)
    SELECT id
      FROM (SELECT c.n, c.id, sum(length(t.payload)) OVER (ORDER BY c.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id)
     WHERE before > 8388608;
    DELETE FROM claimed WHERE id IN (SELECT id FROM too_much);
    DELETE FROM weighing;
END;

-- A revocation until a time below 0 is one until the consumer's clock, wall, shows that much.
CREATE TEMP TRIGGER crank AFTER INSERT ON turn BEGIN
    DELETE FROM refused;
    DELETE FROM too_much;
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

    -- What tasks share (sharing.sql), if any of them do.
    INSERT INTO shared (queue)
    SELECT NEW.queue
     WHERE EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_limit WHERE queue = NEW.queue AND limit_key IS NOT NULL AND finished IS NULL)
        OR EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_wishing WHERE queue = NEW.queue AND wish IS NOT NULL AND finished IS NULL);

    -- The ends of runs.
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM done WHERE value IS NOT NULL;
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM fate WHERE value IS NOT NULL;
    -- A cancelled running task never goes back to queued. (Why its run ended is remembered apart from that.)
    UPDATE fate SET state = 'revoked'
     WHERE state = 'queued'
       AND EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = NEW.queue AND t.id = fate.id AND t.revoked_until NOT BETWEEN -NEW.wall AND NEW.now);

    -- What to count. Where much succeeded it comes added up (see below); if a finish was refused, that sum is wrong.
    INSERT INTO ends (name, created, state, took)
    SELECT t.name, t.created, CASE f.state WHEN 'revoked' THEN 'cancelled' ELSE f.state END, f.took
      FROM fate AS f CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = f.id
     WHERE f.state <> 'queued' OR f.attempt > t.attempt;
    INSERT INTO ends (name, created, state, took)
    SELECT t.name, t.created, 'succeeded', d.took
      FROM done AS d CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = d.id
     WHERE NEW.tally IS NULL OR EXISTS (SELECT 1 FROM refused);

    -- The rows of what ran. A run that failed, or whose worker died, is remembered among the last five.
    UPDATE huey_task
       SET state = 'succeeded', worker = NULL, lost_by = NULL, finished = NEW.now,
           revoked_until = CASE WHEN revoked_once THEN NULL ELSE revoked_until END
     WHERE NEW.keep AND queue = NEW.queue AND id IN (SELECT id FROM done);
    DELETE FROM huey_task WHERE NOT NEW.keep AND queue = NEW.queue AND id IN (SELECT id FROM done);
    UPDATE huey_queue SET top_token = max(top_token, (SELECT max(token) FROM done))
     WHERE id = NEW.queue AND top_token < NEW.top_token AND NOT NEW.keep AND EXISTS (SELECT 1 FROM done);
    UPDATE huey_task
       SET state = CASE f.state WHEN 'revoked' THEN 'cancelled' ELSE f.state END, worker = NULL,
           attempt = f.attempt, crashes = f.crashes, deaths = f.deaths,
           parked = CASE f.parked WHEN 0 THEN f.due ELSE f.parked END,
           reason = CASE f.state WHEN 'revoked' THEN 'revoked' ELSE f.reason END, error = coalesce(f.error, huey_task.error), lost_by = NULL,
           attempts = CASE WHEN f.error IS NULL AND f.deaths <= huey_task.deaths AND f.crashes <= huey_task.crashes THEN attempts ELSE
               json_insert(
                   CASE WHEN attempts IS NULL OR NOT json_valid(attempts) OR json_type(attempts) <> 'array' THEN '[]'
                        WHEN json_array_length(attempts) >= 5 THEN json_remove(attempts, '$[0]') ELSE attempts END, '$[#]',
                   json_set(coalesce(CASE WHEN json_valid(lost_by) THEN lost_by END, json_object('worker', NEW.worker, 'host', NEW.host, 'pid', NEW.pid)),
                            '$.at', NEW.now, '$.reason', f.reason, '$.error', json_extract(f.error, '$.error')))
           END,
           due = CASE WHEN f.state = 'queued' AND f.due > NEW.now THEN f.due END,
           place = CASE WHEN f.state = 'queued' THEN min(coalesce(f.due, NEW.now), NEW.now) ELSE huey_task.place END,
           expires = coalesce(f.expires, huey_task.expires), options = coalesce(f.options, huey_task.options),
           finished = CASE WHEN f.state = 'queued' THEN NULL ELSE NEW.now END,
           revoked_until = CASE WHEN f.state <> 'queued' AND huey_task.revoked_once THEN NULL ELSE huey_task.revoked_until END
      FROM fate AS f
     WHERE huey_task.queue = NEW.queue AND huey_task.id = f.id AND huey_task.id IN (SELECT id FROM fate);

    -- What became due.
    INSERT INTO promoted (id)
    SELECT id FROM huey_task WHERE queue = NEW.queue AND state = 'queued' AND due <= NEW.now ORDER BY due LIMIT 500;
    -- (What is no time stands behind all times: it is handed out, to be found unreadable.)
    INSERT OR IGNORE INTO promoted (id)
    SELECT id FROM huey_task WHERE queue = NEW.queue AND state = 'queued' AND due IS NOT NULL AND due >= '' ORDER BY due LIMIT 500;
    UPDATE huey_task SET place = due, due = NULL WHERE queue = NEW.queue AND id IN (SELECT id FROM promoted);

    INSERT INTO between_ends_and_claim (queue) SELECT queue FROM shared;

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
    -- Where heavy ones wait: up to that with which they weigh more than 8 MiB.
    INSERT INTO weighing (queue)
    SELECT NEW.queue
     WHERE NEW.want > 256
        OR EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_heavy WHERE queue = NEW.queue AND state = 'queued' AND length(payload) > 32768);

    -- Marks of names. A task's own mark goes first; one for once bars the first task.
    INSERT INTO barred (id, name)
    SELECT t.id, t.name
      FROM huey_revocation AS r CROSS JOIN claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE r.queue = NEW.queue AND r.kind = 'n' AND r.until NOT BETWEEN -NEW.wall AND NEW.now AND r.key = t.name AND coalesce(t.revoked_until, 0) BETWEEN -NEW.wall AND NEW.now
       AND (NOT r.once OR c.n = (SELECT min(c2.n) FROM claimed AS c2 CROSS JOIN huey_task AS t2 ON t2.queue = NEW.queue AND t2.id = c2.id
                                  WHERE t2.name = r.key AND coalesce(t2.revoked_until, 0) BETWEEN -NEW.wall AND NEW.now));
    DELETE FROM huey_revocation WHERE queue = NEW.queue AND kind = 'n' AND once AND key IN (SELECT name FROM barred);
    UPDATE huey_task
       SET state = 'cancelled', reason = 'revoked', finished = NEW.now, worker = NEW.worker, token = token + 1,
           revoked_until = CASE WHEN revoked_once THEN NULL ELSE revoked_until END
     WHERE queue = NEW.queue AND id IN (SELECT id FROM barred);

    -- Lease the others; what is revoked or expired ends here instead.
    UPDATE huey_task
       SET state = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now THEN 'cancelled' ELSE 'running' END,
           reason = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now THEN 'revoked' WHEN expires <= NEW.now THEN 'expired' END,
           finished = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now THEN NEW.now END,
           revoked_until = CASE WHEN revoked_once AND (revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now) THEN NULL ELSE revoked_until END,
           worker = NEW.worker, token = token + 1
     WHERE queue = NEW.queue AND state = 'queued' AND id IN (SELECT id FROM claimed);

    INSERT INTO after_claim (queue) SELECT queue FROM shared;

    -- Statistics: in this minute what ended in it; as enqueued, it counts in the minute in which it was put in. (What has not ended is counted
    -- when it is looked at.)
    INSERT INTO ends (name, created, state, took)
    SELECT name, created, 'cancelled', 0
      FROM huey_task INDEXED BY huey_ended
     WHERE queue = NEW.queue AND state = 'cancelled' AND finished IS NOT NULL AND finished = NEW.now
       AND +id IN (SELECT id FROM claimed);
    INSERT INTO counted
    SELECT NEW.now, NEW.queue, 60, NULL, name, 0, sum(state = 'succeeded'), sum(state = 'failed'), sum(state = 'queued'),
           sum(state = 'cancelled'), sum(took), max(took),
           sum(took BETWEEN 1 AND 1000), sum(took BETWEEN 1001 AND 3000), sum(took BETWEEN 3001 AND 10000),
           sum(took BETWEEN 10001 AND 30000), sum(took BETWEEN 30001 AND 100000), sum(took BETWEEN 100001 AND 300000),
           sum(took BETWEEN 300001 AND 1000000), sum(took BETWEEN 1000001 AND 3000000), sum(took BETWEEN 3000001 AND 10000000),
           sum(took BETWEEN 10000001 AND 30000000), sum(took BETWEEN 30000001 AND 100000000), sum(took BETWEEN 100000001 AND 300000000),
           sum(took BETWEEN 300000001 AND 1000000000), sum(took BETWEEN 1000000001 AND 3000000000), sum(took BETWEEN 3000000001 AND 10000000000),
           sum(took >= 10000000001)
      FROM ends
     GROUP BY name;
    INSERT INTO huey_stat (queue, span, start, name, enqueued)
    SELECT NEW.queue, 60, created - created % 60000000 AS minute, name, count(*) FROM ends WHERE state <> 'queued' GROUP BY name, minute
    ON CONFLICT (queue, span, start, name) DO UPDATE SET enqueued = enqueued + excluded.enqueued;
    INSERT INTO counted
    SELECT json_extract(value, '$[0]'), NEW.queue, 60, NULL, json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), 0, 0, 0, json_extract(value, '$[4]'), json_extract(value, '$[5]'),
           json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'), json_extract(value, '$[9]'),
           json_extract(value, '$[10]'), json_extract(value, '$[11]'), json_extract(value, '$[12]'), json_extract(value, '$[13]'),
           json_extract(value, '$[14]'), json_extract(value, '$[15]'), json_extract(value, '$[16]'), json_extract(value, '$[17]'),
           json_extract(value, '$[18]'), json_extract(value, '$[19]'), json_extract(value, '$[20]'), json_extract(value, '$[21]')
      FROM json_each(NEW.tally) WHERE NOT EXISTS (SELECT 1 FROM refused);

    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, NEW.events
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);

    DELETE FROM done;
    DELETE FROM fate;
    DELETE FROM ends;
    DELETE FROM shared;
    DELETE FROM turn;
END;

-- An enqueue that is told to followers, or that may meet marks left for its ids. (Without any it needs no more than one plain INSERT.)
CREATE TEMP TABLE incoming (
    id TEXT UNIQUE, name TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL,
    options TEXT
);
-- `events`: what to tell. `pairs`: instead, JSON list of ids and events, told of those that are put in.
CREATE TEMP TABLE arrival (queue INTEGER, now INTEGER, events TEXT, pairs TEXT);

CREATE TEMP TRIGGER admit AFTER INSERT ON arrival BEGIN
    DELETE FROM met;
    -- What is held stays as it is; whoever may enqueue an id again is told.
    INSERT INTO met (id, other)
    SELECT i.id, i.id FROM incoming AS i CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = i.id
     WHERE t.finished IS NULL AND json_extract(i.options, '$.constraints.own') IS NOT NULL;
    DELETE FROM incoming
     WHERE EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = NEW.queue AND t.id = incoming.id
                                                  AND (t.finished IS NULL OR json_extract(incoming.options, '$.constraints.own') IS NULL));
    -- A task carries the mark that was left for its id; one past its time, or of a task that is held, stays where it is.
    INSERT INTO huey_task
           (queue, id, name, state, priority, place, due, expires, retries, retry_delay, options, created, payload,
            revoked_until, revoked_once)
    SELECT NEW.queue, i.id, i.name, 'queued', i.priority, NEW.now, CASE WHEN i.eta > NEW.now THEN i.eta END, i.expires, i.retries,
           i.retry_delay, i.options, NEW.now, i.payload, r.until, r.once
      FROM incoming AS i
      LEFT JOIN huey_revocation AS r ON r.queue = NEW.queue AND r.kind = 'i' AND r.key = i.id AND r.expires > NEW.now
     WHERE json_extract(i.options, '$.constraints') IS NULL;
    DELETE FROM huey_revocation
     WHERE queue = NEW.queue AND kind = 'i' AND expires > NEW.now
       AND key IN (SELECT id FROM incoming WHERE json_extract(options, '$.constraints') IS NULL);
    INSERT INTO candidate
    SELECT NEW.queue, NEW.now, id, name, payload, priority, CASE WHEN eta > NEW.now THEN eta END, expires, retries, retry_delay, options,
           json_extract(options, '$.constraints.unique[0]'), json_extract(options, '$.constraints.unique[1]'),
           json_extract(options, '$.constraints.limit[0]'), json_extract(options, '$.constraints.limit[1]'), json_extract(options, '$.constraints.keep_id'),
           json_extract(options, '$.constraints.own')
      FROM incoming WHERE json_extract(options, '$.constraints') IS NOT NULL ORDER BY rowid;
    INSERT INTO levelling (queue, key) SELECT NEW.queue, key FROM touched;
    DELETE FROM touched;
    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, NEW.events
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    INSERT INTO huey_event (queue, told, body)
    SELECT NEW.queue, NEW.now, body
      FROM (SELECT group_concat(text, char(10)) AS body
              FROM (SELECT json_extract(p.value, '$[1]') AS text
                      FROM json_each(NEW.pairs) AS p CROSS JOIN incoming AS i ON i.id = json_extract(p.value, '$[0]')
                     WHERE i.id NOT IN (SELECT id FROM met)
                     ORDER BY p.key))
     WHERE body IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    DELETE FROM incoming;
    DELETE FROM arrival;
END;

CREATE TEMP TABLE fired (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE fire (
    queue INTEGER, name TEXT, tick INTEGER, now INTEGER,
    id TEXT, task TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL, options TEXT,
    events TEXT
);

-- A tick that is due puts its task in as an enqueue does.
CREATE TEMP TRIGGER strike AFTER INSERT ON fire BEGIN
    DELETE FROM fired;
    INSERT INTO fired (name)
    SELECT NEW.name WHERE NOT EXISTS (SELECT 1 FROM huey_periodic WHERE queue = NEW.queue AND name = NEW.name AND tick >= NEW.tick);
    INSERT INTO incoming
    SELECT NEW.id, NEW.task, NEW.payload, NEW.priority, NEW.eta, NEW.expires, NEW.retries, NEW.retry_delay, NEW.options
      FROM fired WHERE NEW.id IS NOT NULL;
    INSERT INTO arrival (queue, now, events) SELECT NEW.queue, NEW.now, NEW.events FROM fired;
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
    UPDATE huey_task
       SET worker = NEW.worker, token = token + 1,
           lost_by = coalesce(lost_by, (SELECT json_object('worker', id, 'host', host, 'pid', pid) FROM huey_worker WHERE id = NEW.dead))
     WHERE queue = NEW.queue AND id IN (SELECT id FROM taken);
    -- Nothing that proves ownership goes before what it owned.
    DELETE FROM huey_worker
     WHERE id = NEW.dead AND until = NEW.seen AND NOT EXISTS (SELECT 1 FROM huey_task WHERE state = 'running' AND worker = NEW.dead);
    DELETE FROM takeover;
END;

CREATE TEMP TABLE grabbed (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TEMP TABLE grab (queue INTEGER, kind TEXT, keys TEXT, now INTEGER);

CREATE TEMP TRIGGER gather AFTER INSERT ON grab BEGIN
    DELETE FROM grabbed;
    INSERT INTO grabbed (key, value)
    SELECT id, value FROM huey_result
     WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT value FROM json_each(NEW.keys))
       AND (expires IS NULL OR expires > NEW.now);
    INSERT INTO grabbed (key, value)
    SELECT key, value FROM huey_mark
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT value FROM json_each(NEW.keys))
       AND (expires IS NULL OR expires > NEW.now);
    DELETE FROM huey_result WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT key FROM grabbed);
    DELETE FROM huey_mark
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT key FROM grabbed);
    DELETE FROM grab;
END;

CREATE TEMP TABLE folding (start INTEGER, name TEXT, PRIMARY KEY (start, name)) WITHOUT ROWID;
CREATE TEMP TABLE fold (queue INTEGER, minutes INTEGER);

CREATE TEMP TRIGGER fold_up AFTER INSERT ON fold BEGIN
    DELETE FROM folding;
    INSERT INTO folding (start, name)
    SELECT start, name FROM huey_stat WHERE queue = NEW.queue AND span = 60 AND start <= NEW.minutes ORDER BY start, name LIMIT 500;
    INSERT INTO counted
    SELECT s.start, s.queue, 3600, NULL, s.name, s.enqueued, s.succeeded, s.failed, s.retried, s.cancelled, s.took, s.longest,
           ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
      FROM folding AS f CROSS JOIN huey_stat AS s ON s.queue = NEW.queue AND s.span = 60 AND s.start = f.start AND s.name = f.name;
    DELETE FROM huey_stat
     WHERE queue = NEW.queue AND span = 60 AND (start, name) IN (SELECT start, name FROM folding);
    DELETE FROM fold;
END;
