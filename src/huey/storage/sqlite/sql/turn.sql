-- name: temporary
-- (SQLite) What a write connection needs besides the schema: temp tables that stage the rows of a call, and triggers that do a whole verb.
--
-- A verb that touches several tables is ONE statement: an INSERT into a temp table (`..._request`) fires a temp trigger. So the write lock of
-- the file is held inside one C call and never between two steps of Python, where a task that keeps the GIL would stop every other process.
-- Staging takes no lock on the file. An error anywhere undoes main and temp rows alike and leaves the staged rows, so the verb can be repeated.
-- In a trigger: no WITH at the top, no RETURNING, no bound parameters; temp names must differ from all main names.

-- Finishes of a turn: tasks that succeeded, those of them that are kept until a time of their own, and all others.
CREATE TEMP TABLE successes (id TEXT PRIMARY KEY, token INTEGER, value BLOB, duration INTEGER) WITHOUT ROWID;
CREATE TEMP TABLE kept (id TEXT PRIMARY KEY, until INTEGER) WITHOUT ROWID;
CREATE TEMP TABLE other_finishes (
    id TEXT PRIMARY KEY, token INTEGER, state TEXT, due INTEGER, attempt INTEGER, solo_crashes INTEGER, deaths INTEGER, unknown_until INTEGER,
    reason TEXT, value BLOB, error TEXT, duration INTEGER, expires INTEGER, options TEXT
) WITHOUT ROWID;
-- Runs, and tasks cancelled before they ran, for the statistics.
CREATE TEMP TABLE stat_rows (name TEXT, created INTEGER, state TEXT, duration INTEGER);
-- What a turn did: finishes that it did not write because their lease was lost; scheduled tasks that became ready; tasks it claimed, in
-- order; those of them that a revocation of their name cancels.
CREATE TEMP TABLE stale (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE promoted (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE claimed (n INTEGER PRIMARY KEY, id TEXT);
CREATE TEMP TABLE revoked_by_name (id TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
CREATE TEMP TABLE turn_request (
    queue INTEGER, worker TEXT, host TEXT, pid INTEGER, host_scope TEXT, start_time INTEGER, kind TEXT, supervisor TEXT, now INTEGER,
    until INTEGER, want INTEGER, result_expires INTEGER, events TEXT, keep INTEGER,
    tally TEXT, top_token INTEGER, wall INTEGER, has_outputs INTEGER
);

-- A view to write statistics through: adds a row to the minute or hour of `at`.
CREATE TEMP VIEW stats_input AS SELECT 0 AS at, * FROM huey_stats;

CREATE TEMP TRIGGER upsert_stats INSTEAD OF INSERT ON stats_input BEGIN
    INSERT INTO huey_stats (
        queue, span, start, name, enqueued, succeeded, failed, retried, cancelled, duration, longest,
        ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer)
    VALUES (
        NEW.queue, NEW.span, NEW.at - NEW.at % (NEW.span * 1000000), NEW.name, NEW.enqueued, NEW.succeeded, NEW.failed, NEW.retried,
        NEW.cancelled, NEW.duration, NEW.longest, NEW.ms1, NEW.ms3, NEW.ms10, NEW.ms30, NEW.ms100, NEW.ms300, NEW.s1, NEW.s3, NEW.s10,
        NEW.s30, NEW.s100, NEW.s300, NEW.s1000, NEW.s3000, NEW.s10000, NEW.longer)
    ON CONFLICT (queue, span, start, name) DO UPDATE SET
        enqueued = enqueued + excluded.enqueued, succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        retried = retried + excluded.retried, cancelled = cancelled + excluded.cancelled, duration = duration + excluded.duration,
        longest = max(longest, excluded.longest), ms1 = ms1 + excluded.ms1, ms3 = ms3 + excluded.ms3, ms10 = ms10 + excluded.ms10,
        ms30 = ms30 + excluded.ms30, ms100 = ms100 + excluded.ms100, ms300 = ms300 + excluded.ms300, s1 = s1 + excluded.s1,
        s3 = s3 + excluded.s3, s10 = s10 + excluded.s10, s30 = s30 + excluded.s30, s100 = s100 + excluded.s100,
        s300 = s300 + excluded.s300, s1000 = s1000 + excluded.s1000, s3000 = s3000 + excluded.s3000, s10000 = s10000 + excluded.s10000,
        longer = longer + excluded.longer;
END;

-- Claim no more than 8 MiB, but at least one task.
CREATE TEMP TABLE over_byte_limit (id TEXT);
CREATE TEMP TABLE byte_limit_request (queue INTEGER);

CREATE TEMP TRIGGER apply_byte_limit AFTER INSERT ON byte_limit_request BEGIN
    INSERT INTO over_byte_limit (id)
    SELECT id
      FROM (SELECT c.n, c.id, sum(length(t.payload)) OVER (ORDER BY c.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id)
     WHERE before > $TURN_BYTES;
    DELETE FROM claimed WHERE id IN (SELECT id FROM over_byte_limit);
    DELETE FROM byte_limit_request;
END;

-- A revocation `until` a negative time -t lasts until the consumer's own clock (`wall`) shows t.
CREATE TEMP TRIGGER do_turn AFTER INSERT ON turn_request BEGIN
    DELETE FROM stale;
    DELETE FROM over_byte_limit;
    DELETE FROM promoted;
    DELETE FROM claimed;
    DELETE FROM revoked_by_name;

    -- 1. Renew the worker's lease, which covers all tasks that it holds.
    INSERT INTO huey_worker (id, queue, host, pid, host_scope, start_time, kind, supervisor, started, until)
    VALUES (NEW.worker, NEW.queue, NEW.host, NEW.pid, NEW.host_scope, NEW.start_time, NEW.kind, NEW.supervisor, NEW.now, NEW.until)
    ON CONFLICT (id) DO UPDATE SET until = excluded.until;

    -- 2. Fence: a finish is written only while its worker still has the lease with that token.
    INSERT INTO stale (id)
    SELECT d.id FROM successes AS d
     WHERE NOT EXISTS (SELECT 1 FROM huey_task AS t
                        WHERE t.queue = NEW.queue AND t.id = d.id AND t.state = 'running' AND t.worker = NEW.worker AND t.token = d.token);
    INSERT OR IGNORE INTO stale (id)
    SELECT f.id FROM other_finishes AS f
     WHERE NOT EXISTS (SELECT 1 FROM huey_task AS t
                        WHERE t.queue = NEW.queue AND t.id = f.id AND t.state = 'running' AND t.worker = NEW.worker AND t.token = f.token);
    DELETE FROM successes WHERE id IN (SELECT id FROM stale);
    DELETE FROM other_finishes WHERE id IN (SELECT id FROM stale);

    -- 3. Constraints (constraints.sql), if there are constrained tasks.
    INSERT INTO constrained_turn (queue)
    SELECT NEW.queue
     WHERE EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_concurrency WHERE queue = NEW.queue AND concurrency_key IS NOT NULL AND finished IS NULL)
        OR EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_wanted WHERE queue = NEW.queue AND wanted_key IS NOT NULL AND finished IS NULL)
        OR EXISTS (SELECT 1 FROM huey_window WHERE queue = NEW.queue AND is_awaited = 1);

    -- 4. Store results.
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM successes WHERE value IS NOT NULL;
    INSERT OR REPLACE INTO huey_result (queue, id, expires, value)
    SELECT NEW.queue, id, NEW.result_expires, value FROM other_finishes WHERE value IS NOT NULL;
    UPDATE huey_result SET expires = max(expires, k.until + $KEPT_RESULT)
      FROM (SELECT * FROM kept LIMIT -1) AS k
     WHERE huey_result.queue = NEW.queue AND huey_result.id = k.id AND k.id IN (SELECT id FROM successes);
    -- 5. A revoked running task never goes back to queued. (`attempts` keeps why its run ended.)
    UPDATE other_finishes SET state = 'revoked'
     WHERE state = 'queued'
       AND EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = NEW.queue AND t.id = other_finishes.id AND t.revoked_until NOT BETWEEN -NEW.wall AND NEW.now);

    --    Workflows (edges.sql), if there are edges or follow-ups.
    INSERT INTO edge_turn (queue, now, keep)
    SELECT NEW.queue, NEW.now, NEW.keep
     WHERE NEW.has_outputs OR EXISTS (SELECT 1 FROM huey_edge);

    -- 6. Collect statistics. Many successes come already added up in `tally` (see 12); a stale finish makes that sum wrong.
    INSERT INTO stat_rows (name, created, state, duration)
    SELECT t.name, t.created, CASE f.state WHEN 'revoked' THEN 'cancelled' ELSE f.state END, f.duration
      FROM other_finishes AS f CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = f.id
     WHERE f.state <> 'queued' OR f.attempt > t.attempt;
    INSERT INTO stat_rows (name, created, state, duration)
    SELECT t.name, t.created, 'succeeded', d.duration
      FROM successes AS d CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = d.id
     WHERE NEW.tally IS NULL OR EXISTS (SELECT 1 FROM stale);

    -- 7. Write the finishes. `attempts` keeps the last five runs that failed or whose worker died.
    UPDATE huey_task
       SET state = 'succeeded', worker = NULL, crashed_worker = NULL, finished = NEW.now,
           due = (SELECT until FROM kept AS k WHERE k.id = huey_task.id),
           revoked_until = CASE WHEN revoked_once THEN NULL ELSE revoked_until END
     WHERE (NEW.keep OR EXISTS (SELECT 1 FROM kept)) AND queue = NEW.queue
       AND id IN (SELECT id FROM successes WHERE NEW.keep OR id IN (SELECT id FROM kept));
    DELETE FROM huey_task WHERE NOT NEW.keep AND queue = NEW.queue AND id IN (SELECT id FROM successes) AND state = 'running';
    UPDATE huey_queue SET top_token = max(top_token, (SELECT max(token) FROM successes))
     WHERE id = NEW.queue AND top_token < NEW.top_token AND NOT NEW.keep AND EXISTS (SELECT 1 FROM successes);
    UPDATE huey_task
       SET state = CASE f.state WHEN 'revoked' THEN 'cancelled' ELSE f.state END, worker = NULL,
           attempt = f.attempt, solo_crashes = f.solo_crashes, deaths = f.deaths,
           unknown_until = CASE f.unknown_until WHEN 0 THEN f.due ELSE f.unknown_until END,
           reason = CASE f.state WHEN 'revoked' THEN 'revoked' ELSE f.reason END, error = coalesce(f.error, huey_task.error), crashed_worker = NULL,
           attempts = CASE WHEN f.error IS NULL AND f.deaths <= huey_task.deaths AND f.solo_crashes <= huey_task.solo_crashes THEN attempts ELSE
               json_insert(
                   CASE WHEN attempts IS NULL OR NOT json_valid(attempts) OR json_type(attempts) <> 'array' THEN '[]'
                        WHEN json_array_length(attempts) >= 5 THEN json_remove(attempts, '$[0]') ELSE attempts END, '$[#]',
                   json_set(coalesce(CASE WHEN json_valid(crashed_worker) THEN crashed_worker END, json_object('worker', NEW.worker, 'host', NEW.host, 'pid', NEW.pid)),
                            '$.at', NEW.now, '$.reason', f.reason, '$.error', json_extract(f.error, '$.error')))
           END,
           due = CASE WHEN f.state = 'queued' AND f.due > NEW.now THEN f.due END,
           ready_at = CASE WHEN f.state = 'queued' THEN min(coalesce(f.due, NEW.now), NEW.now) ELSE huey_task.ready_at END,
           expires = coalesce(f.expires, huey_task.expires), options = coalesce(f.options, huey_task.options),
           finished = CASE WHEN f.state = 'queued' THEN NULL ELSE NEW.now END,
           revoked_until = CASE WHEN f.state <> 'queued' AND huey_task.revoked_once THEN NULL ELSE huey_task.revoked_until END
      FROM other_finishes AS f
     WHERE huey_task.queue = NEW.queue AND huey_task.id = f.id AND huey_task.id IN (SELECT id FROM other_finishes);

    -- 8. Promote scheduled tasks that became due.
    INSERT INTO promoted (id)
    SELECT id FROM huey_task WHERE queue = NEW.queue AND state = 'queued' AND due <= NEW.now ORDER BY due LIMIT $PROMOTE;
    -- (A due that is not a number sorts behind all numbers: such a task is claimed too, and the worker finds it unreadable.)
    INSERT OR IGNORE INTO promoted (id)
    SELECT id FROM huey_task WHERE queue = NEW.queue AND state = 'queued' AND due IS NOT NULL AND due >= '' ORDER BY due LIMIT $PROMOTE;
    UPDATE huey_task SET ready_at = due, due = NULL WHERE queue = NEW.queue AND id IN (SELECT id FROM promoted);

    INSERT INTO before_claim_step (queue, now) SELECT queue, NEW.now FROM constrained_turn;
    --    After that: what follows is enqueued by other steps, which rebalance the limits of what they enqueue.
    INSERT INTO follow_up_step (now) SELECT now FROM edge_turn;

    -- 9. Choose the best ready tasks: suspects first, for workers that take them.
    INSERT INTO claimed (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'queued' AND due IS NULL AND solo_crashes > 0 AND NEW.kind IN ('solo', 'quarantine')
       AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = NEW.queue AND is_paused)
     ORDER BY priority DESC, ready_at, id LIMIT NEW.want;
    INSERT INTO claimed (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'queued' AND due IS NULL AND solo_crashes = 0 AND NEW.kind <> 'quarantine'
       AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = NEW.queue AND is_paused)
     ORDER BY priority DESC, ready_at, id LIMIT NEW.want - (SELECT count(*) FROM claimed);
    --    If there are heavy tasks: only up to the one with which they exceed 8 MiB.
    INSERT INTO byte_limit_request (queue)
    SELECT NEW.queue
     WHERE NEW.want > $LARGEST_TURN
        OR EXISTS (SELECT 1 FROM huey_task INDEXED BY huey_heavy WHERE queue = NEW.queue AND state = 'queued' AND length(payload) > $HEAVY);

    -- 10. Cancel tasks whose name is revoked. A task's own revocation overrides that of its name; one with `once` cancels the first task only.
    INSERT INTO revoked_by_name (id, name)
    SELECT t.id, t.name
      FROM huey_revocation AS r CROSS JOIN claimed AS c CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = c.id
     WHERE r.queue = NEW.queue AND r.kind = 'n' AND r.until NOT BETWEEN -NEW.wall AND NEW.now AND r.key = t.name AND coalesce(t.revoked_until, 0) BETWEEN -NEW.wall AND NEW.now
       AND (NOT r.once OR c.n = (SELECT min(c2.n) FROM claimed AS c2 CROSS JOIN huey_task AS t2 ON t2.queue = NEW.queue AND t2.id = c2.id
                                  WHERE t2.name = r.key AND coalesce(t2.revoked_until, 0) BETWEEN -NEW.wall AND NEW.now));
    DELETE FROM huey_revocation WHERE queue = NEW.queue AND kind = 'n' AND once AND key IN (SELECT name FROM revoked_by_name);
    UPDATE huey_task
       SET state = 'cancelled', reason = 'revoked', finished = NEW.now, worker = NEW.worker, token = token + 1,
           revoked_until = CASE WHEN revoked_once THEN NULL ELSE revoked_until END
     WHERE queue = NEW.queue AND id IN (SELECT id FROM revoked_by_name);

    -- 11. Lease the others; those that are revoked or expired are cancelled instead.
    UPDATE huey_task
       SET state = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now THEN 'cancelled' ELSE 'running' END,
           reason = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now THEN 'revoked' WHEN expires <= NEW.now THEN 'expired' END,
           finished = CASE WHEN revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now THEN NEW.now END,
           revoked_until = CASE WHEN revoked_once AND (revoked_until NOT BETWEEN -NEW.wall AND NEW.now OR expires <= NEW.now) THEN NULL ELSE revoked_until END,
           worker = NEW.worker, token = token + 1
     WHERE queue = NEW.queue AND state = 'queued' AND id IN (SELECT id FROM claimed);

    INSERT INTO after_claim_step (queue, now) SELECT queue, NEW.now FROM constrained_turn;
    INSERT INTO edges_after_claim (queue, now) SELECT queue, now FROM edge_turn;

    -- 12. Statistics: a task counts in the minute in which it ended, and as enqueued in the minute in which it was enqueued. (Tasks that have
    --     not ended are counted when statistics are read.)
    INSERT INTO stat_rows (name, created, state, duration)
    SELECT name, created, 'cancelled', 0
      FROM huey_task INDEXED BY huey_ended
     WHERE queue = NEW.queue AND state = 'cancelled' AND finished IS NOT NULL AND finished = NEW.now
       AND +id IN (SELECT id FROM claimed);
    INSERT INTO stats_input
    SELECT NEW.now, NEW.queue, 60, NULL, name, 0, sum(state = 'succeeded'), sum(state = 'failed'), sum(state = 'queued'),
           sum(state = 'cancelled'), sum(duration), max(duration),
           sum(duration BETWEEN 1 AND 1000), sum(duration BETWEEN 1001 AND 3000), sum(duration BETWEEN 3001 AND 10000),
           sum(duration BETWEEN 10001 AND 30000), sum(duration BETWEEN 30001 AND 100000), sum(duration BETWEEN 100001 AND 300000),
           sum(duration BETWEEN 300001 AND 1000000), sum(duration BETWEEN 1000001 AND 3000000), sum(duration BETWEEN 3000001 AND 10000000),
           sum(duration BETWEEN 10000001 AND 30000000), sum(duration BETWEEN 30000001 AND 100000000), sum(duration BETWEEN 100000001 AND 300000000),
           sum(duration BETWEEN 300000001 AND 1000000000), sum(duration BETWEEN 1000000001 AND 3000000000), sum(duration BETWEEN 3000000001 AND 10000000000),
           sum(duration >= 10000000001)
      FROM stat_rows
     GROUP BY name;
    INSERT INTO huey_stats (queue, span, start, name, enqueued)
    SELECT NEW.queue, 60, created - created % 60000000 AS minute, name, count(*) FROM stat_rows WHERE state <> 'queued' GROUP BY name, minute
    ON CONFLICT (queue, span, start, name) DO UPDATE SET enqueued = enqueued + excluded.enqueued;
    INSERT INTO stats_input
    SELECT json_extract(value, '$[0]'), NEW.queue, 60, NULL, json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), 0, 0, 0, json_extract(value, '$[4]'), json_extract(value, '$[5]'),
           json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]'), json_extract(value, '$[9]'),
           json_extract(value, '$[10]'), json_extract(value, '$[11]'), json_extract(value, '$[12]'), json_extract(value, '$[13]'),
           json_extract(value, '$[14]'), json_extract(value, '$[15]'), json_extract(value, '$[16]'), json_extract(value, '$[17]'),
           json_extract(value, '$[18]'), json_extract(value, '$[19]'), json_extract(value, '$[20]'), json_extract(value, '$[21]')
      FROM json_each(NEW.tally) WHERE NOT EXISTS (SELECT 1 FROM stale);

    INSERT INTO huey_event (queue, published_at, body)
    SELECT NEW.queue, NEW.now, NEW.events
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);

    DELETE FROM successes;
    DELETE FROM kept;
    DELETE FROM other_finishes;
    DELETE FROM stat_rows;
    DELETE FROM constrained_turn;
    DELETE FROM turn_request;
END;

-- The slow enqueue: with constraints, events for followers, or revocations of ids that were not held. (Otherwise it is one plain INSERT.)
CREATE TEMP TABLE incoming (
    id TEXT UNIQUE, name TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL,
    options TEXT
);
-- events: what to publish. pairs: instead, a JSON list of ids and events, which are published for those that are inserted.
CREATE TEMP TABLE enqueue_request (queue INTEGER, now INTEGER, events TEXT, pairs TEXT);

CREATE TEMP TRIGGER insert_incoming AFTER INSERT ON enqueue_request BEGIN
    DELETE FROM duplicates;
    -- Tasks that are held are unchanged. They are reported if their id may be enqueued again (`own`).
    INSERT INTO duplicates (id, other)
    SELECT i.id, i.id FROM incoming AS i CROSS JOIN huey_task AS t ON t.queue = NEW.queue AND t.id = i.id
     WHERE t.finished IS NULL AND json_extract(i.options, '$.constraints.own') IS NOT NULL;
    DELETE FROM incoming
     WHERE EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = NEW.queue AND t.id = incoming.id
                                                  AND (t.finished IS NULL OR json_extract(incoming.options, '$.constraints.own') IS NULL));
    -- A new task takes over the revocation that its id has, unless that has expired.
    INSERT INTO huey_task
           (queue, id, name, state, priority, ready_at, due, expires, retries, retry_delay, options, created, payload,
            revoked_until, revoked_once)
    SELECT NEW.queue, i.id, i.name, 'queued', i.priority, NEW.now, CASE WHEN i.eta > NEW.now THEN i.eta END, i.expires, i.retries,
           i.retry_delay, i.options, NEW.now, i.payload, r.until, r.once
      FROM incoming AS i
      LEFT JOIN huey_revocation AS r ON r.queue = NEW.queue AND r.kind = 'i' AND r.key = i.id AND r.expires > NEW.now
     WHERE json_extract(i.options, '$.constraints') IS NULL;
    DELETE FROM huey_revocation
     WHERE queue = NEW.queue AND kind = 'i' AND expires > NEW.now
       AND key IN (SELECT id FROM incoming WHERE json_extract(options, '$.constraints') IS NULL);
    INSERT INTO constrained_task
    SELECT NEW.queue, NEW.now, id, name, payload, priority, CASE WHEN eta > NEW.now THEN eta END, expires, retries, retry_delay, options,
           json_extract(options, '$.constraints.unique[0]'), json_extract(options, '$.constraints.unique[1]'),
           json_extract(options, '$.constraints.limit[0]'), json_extract(options, '$.constraints.limit[1]'), json_extract(options, '$.constraints.keep_id'),
           json_extract(options, '$.constraints.own')
      FROM incoming WHERE json_extract(options, '$.constraints') IS NOT NULL ORDER BY rowid;
    INSERT INTO rebalance_request (queue, key) SELECT NEW.queue, key FROM touched_keys;
    DELETE FROM touched_keys;
    INSERT INTO huey_event (queue, published_at, body)
    SELECT NEW.queue, NEW.now, NEW.events
     WHERE NEW.events IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    INSERT INTO huey_event (queue, published_at, body)
    SELECT NEW.queue, NEW.now, body
      FROM (SELECT group_concat(text, char(10)) AS body
              FROM (SELECT json_extract(p.value, '$[1]') AS text
                      FROM json_each(NEW.pairs) AS p CROSS JOIN incoming AS i ON i.id = json_extract(p.value, '$[0]')
                     WHERE i.id NOT IN (SELECT id FROM duplicates)
                     ORDER BY p.key))
     WHERE body IS NOT NULL AND EXISTS (SELECT 1 FROM huey_follower WHERE queue = NEW.queue AND until > NEW.now);
    DELETE FROM incoming;
    DELETE FROM enqueue_request;
END;

CREATE TEMP TABLE fired_ticks (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE tick_request (
    queue INTEGER, name TEXT, tick INTEGER, now INTEGER,
    id TEXT, task TEXT, payload BLOB, priority INTEGER, eta INTEGER, expires INTEGER, retries INTEGER, retry_delay REAL, options TEXT,
    events TEXT
);

-- Fire a tick once: enqueue its task as an enqueue does, unless this tick or a later one was fired.
CREATE TEMP TRIGGER fire_tick AFTER INSERT ON tick_request BEGIN
    DELETE FROM fired_ticks;
    INSERT INTO fired_ticks (name)
    SELECT NEW.name WHERE NOT EXISTS (SELECT 1 FROM huey_periodic WHERE queue = NEW.queue AND name = NEW.name AND tick >= NEW.tick);
    INSERT INTO incoming
    SELECT NEW.id, NEW.task, NEW.payload, NEW.priority, NEW.eta, NEW.expires, NEW.retries, NEW.retry_delay, NEW.options
      FROM fired_ticks WHERE NEW.id IS NOT NULL;
    INSERT INTO enqueue_request (queue, now, events) SELECT NEW.queue, NEW.now, NEW.events FROM fired_ticks;
    INSERT INTO huey_periodic (queue, name, tick, seen)
    SELECT NEW.queue, NEW.name, NEW.tick, NEW.now FROM fired_ticks WHERE true
    ON CONFLICT (queue, name) DO UPDATE SET tick = excluded.tick, seen = excluded.seen;
    DELETE FROM tick_request;
END;

-- Take over the tasks of a dead worker: new tokens, so that its finishes are stale.
CREATE TEMP TABLE reclaimed (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE reclaim_request (queue INTEGER, dead TEXT, seen INTEGER, worker TEXT);

CREATE TEMP TRIGGER do_reclaim AFTER INSERT ON reclaim_request BEGIN
    DELETE FROM reclaimed;
    INSERT INTO reclaimed (id)
    SELECT id FROM huey_task
     WHERE queue = NEW.queue AND state = 'running' AND worker = NEW.dead
       AND EXISTS (SELECT 1 FROM huey_worker WHERE id = NEW.dead AND until = NEW.seen)
       AND EXISTS (SELECT 1 FROM huey_worker WHERE id = NEW.worker);
    UPDATE huey_task
       SET worker = NEW.worker, token = token + 1,
           crashed_worker = coalesce(crashed_worker, (SELECT json_object('worker', id, 'host', host, 'pid', pid) FROM huey_worker WHERE id = NEW.dead))
     WHERE queue = NEW.queue AND id IN (SELECT id FROM reclaimed);
    -- The row of the worker is deleted last: it is what makes its tasks reclaimable.
    DELETE FROM huey_worker
     WHERE id = NEW.dead AND until = NEW.seen AND NOT EXISTS (SELECT 1 FROM huey_task WHERE state = 'running' AND worker = NEW.dead);
    DELETE FROM reclaim_request;
END;

-- Read and remove many results or values.
CREATE TEMP TABLE popped (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TEMP TABLE pop_request (queue INTEGER, kind TEXT, keys TEXT, now INTEGER);

CREATE TEMP TRIGGER pop_values AFTER INSERT ON pop_request BEGIN
    DELETE FROM popped;
    INSERT INTO popped (key, value)
    SELECT id, value FROM huey_result
     WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT value FROM json_each(NEW.keys))
       AND (expires IS NULL OR expires > NEW.now);
    INSERT INTO popped (key, value)
    SELECT key, value FROM huey_value
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT value FROM json_each(NEW.keys))
       AND (expires IS NULL OR expires > NEW.now);
    DELETE FROM huey_result WHERE NEW.kind = 'result' AND queue = NEW.queue AND id IN (SELECT key FROM popped);
    DELETE FROM huey_value
     WHERE NEW.kind <> 'result' AND queue = NEW.queue AND kind = NEW.kind AND key IN (SELECT key FROM popped);
    DELETE FROM pop_request;
END;

-- Roll minute rows up into their hours.
CREATE TEMP TABLE rolled_up (start INTEGER, name TEXT, PRIMARY KEY (start, name)) WITHOUT ROWID;
CREATE TEMP TABLE roll_up_request (queue INTEGER, minutes INTEGER);

CREATE TEMP TRIGGER roll_up_stats AFTER INSERT ON roll_up_request BEGIN
    DELETE FROM rolled_up;
    INSERT INTO rolled_up (start, name)
    SELECT start, name FROM huey_stats WHERE queue = NEW.queue AND span = 60 AND start <= NEW.minutes ORDER BY start, name LIMIT $PRUNE;
    INSERT INTO stats_input
    SELECT s.start, s.queue, 3600, NULL, s.name, s.enqueued, s.succeeded, s.failed, s.retried, s.cancelled, s.duration, s.longest,
           ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
      FROM rolled_up AS f CROSS JOIN huey_stats AS s ON s.queue = NEW.queue AND s.span = 60 AND s.start = f.start AND s.name = f.name;
    DELETE FROM huey_stats
     WHERE queue = NEW.queue AND span = 60 AND (start, name) IN (SELECT start, name FROM rolled_up);
    DELETE FROM roll_up_request;
END;
