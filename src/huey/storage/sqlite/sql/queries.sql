-- name: queue_make
-- Make the queue known.
INSERT OR IGNORE INTO huey_queue (name) VALUES (?);

-- name: queue_id
-- The number of a queue.
SELECT id FROM huey_queue WHERE name = ?;

-- name: arrival
-- Put staged tasks in and tell it; the trigger `admit` does it.
INSERT INTO arrival VALUES (?, ?, ?, ?);

-- name: around
-- What an enqueue has to know: whether anybody follows, whether ids that nobody held were revoked.
SELECT EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now),
       EXISTS (SELECT 1 FROM huey_revocation WHERE queue = :queue AND kind = 'i');

-- name: unheld
-- Which of these ids nobody holds.
SELECT value FROM json_each(:ids) WHERE NOT EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND id = value);

-- name: turn
-- One trip of a worker; the trigger `crank` does it.
INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: turn_leases
-- What the turn claimed, in that order.
SELECT t.id, t.token, t.name, t.payload, t.priority, t.place, t.expires, t.retries, t.retry_delay, t.attempt,
       t.crashes, t.deaths, t.parked, t.options, t.created
  FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = c.id
 WHERE t.worker = :worker AND t.state = 'running'
 ORDER BY c.n;

-- name: turn_cancelled
-- What would have been claimed and ended instead.
SELECT t.id, t.name, t.reason, max(0, t.retries - t.attempt), t.retry_delay
  FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = c.id
 WHERE t.worker = :worker AND t.state = 'cancelled'
 ORDER BY c.n;

-- name: turn_control
-- What else a worker has to know after its turn.
SELECT (SELECT count(*) FROM refused),
       (SELECT count(*) FROM promoted),
       (SELECT count(*) FROM claimed),
       (SELECT min(due) FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL),
       (SELECT is_paused FROM huey_queue WHERE id = :queue),
       EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now),
       EXISTS (SELECT 1 FROM huey_task WHERE worker = :worker AND state = 'running' AND revoked_until IS NOT NULL AND revoked_until NOT BETWEEN -:wall AND :now),
       EXISTS (SELECT 1 FROM too_much);

-- name: turn_refused
-- Finishes that were not written.
SELECT id FROM refused;

-- name: turn_promoted
-- Scheduled tasks that became ready.
SELECT t.id, t.name, max(0, t.retries - t.attempt), t.retry_delay FROM promoted AS p CROSS JOIN huey_task AS t ON t.queue = ? AND t.id = p.id;

-- name: turn_stop
-- Tasks of a worker that somebody asked to cancel.
SELECT id FROM huey_task WHERE worker = :worker AND state = 'running' AND revoked_until IS NOT NULL AND revoked_until NOT BETWEEN -:wall AND :now;

-- name: release
-- Give back a task that never started, at its old place.
UPDATE huey_task SET state = 'queued', worker = NULL, lost_by = NULL
 WHERE queue = :queue AND state = 'running' AND worker = :worker
   AND (id, token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases));

-- name: mend_states_find
-- Of the next tasks by id: the last one, whether these were all, and how many are in states that there are not. (An index that holds just
-- those would cost each claim and each finish more than this look.)
SELECT max(id), count(*) < :most, total(state NOT IN ('queued', 'blocked', 'running', 'succeeded', 'failed', 'cancelled'))
  FROM (SELECT id, state FROM huey_task WHERE queue = :queue AND id > :after ORDER BY id LIMIT :most);

-- name: mend_states
-- Tasks in states that there are not: dead letters.
UPDATE huey_task SET state = 'failed', reason = 'undecodable', finished = :now, worker = NULL
 WHERE queue = :queue AND id > :after AND id <= :last
   AND state NOT IN ('queued', 'blocked', 'running', 'succeeded', 'failed', 'cancelled');

-- name: mend_workers
-- A lease whose end cannot be read is over.
UPDATE huey_worker SET until = 0 WHERE queue = :queue AND typeof(until) <> 'integer';

-- name: mend_running
-- Tasks that run nowhere: no worker of that name is known.
UPDATE huey_task SET state = 'queued', worker = NULL
 WHERE queue = :queue AND state = 'running' AND limit_key IS NULL
   AND NOT EXISTS (SELECT 1 FROM huey_worker AS w WHERE w.id = huey_task.worker);

-- name: missing
-- What tasks wait for that no worker could run so far.
SELECT DISTINCT name, reason FROM huey_task INDEXED BY huey_missing
 WHERE queue = ? AND state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL;

-- name: missing_find
-- The best of those that wait for one of these. None while the queue is paused.
SELECT id, length(payload) FROM huey_task INDEXED BY huey_missing
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL AND due > :now
   AND (name, reason) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:missing))
   AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = :queue AND is_paused)
 ORDER BY priority DESC, place, id LIMIT :want;

-- name: missing_claim
-- Lease those of which a claim has nothing to look at.
UPDATE huey_task SET state = 'running', worker = :worker, token = token + 1, due = NULL, reason = NULL
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL AND id IN (SELECT value FROM json_each(:ids))
   AND limit_key IS NULL AND wish IS NULL AND crashes = 0 AND coalesce(revoked_until, 0) BETWEEN 0 AND :now AND coalesce(expires, :now + 1) > :now
   AND NOT EXISTS (SELECT 1 FROM huey_revocation AS r WHERE r.queue = :queue AND r.kind = 'n' AND r.key = huey_task.name
                                                        AND r.until NOT BETWEEN 0 AND :now);

-- name: missing_open
-- The others are due.
UPDATE huey_task SET due = :now
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: missing_leases
-- What was leased of those.
SELECT id, token, name, payload, priority, place, expires, retries, retry_delay, attempt, crashes, deaths, parked, options, created
  FROM huey_task
 WHERE queue = :queue AND state = 'running' AND worker = :worker AND id IN (SELECT value FROM json_each(:ids))
 ORDER BY priority DESC, place, id;

-- name: takeover
-- Take over what a dead worker holds; the trigger `inherit` does it.
INSERT INTO takeover VALUES (?, ?, ?, ?);

-- name: takeover_leases
-- What was taken over.
SELECT t.id, t.token, t.name, t.payload, t.priority, t.place, t.expires, t.retries, t.retry_delay, t.attempt,
       t.crashes, t.deaths, t.parked, t.options, t.created
  FROM taken AS k CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = k.id
 WHERE t.worker = :worker;

-- name: leases
-- What a worker holds.
SELECT id, token, name, payload, priority, place, expires, retries, retry_delay, attempt, crashes, deaths, parked, options, created
  FROM huey_task WHERE worker = :worker AND state = 'running' AND queue = :queue;

-- name: heartbeat
-- Renew the lease of a worker and make it known.
INSERT INTO huey_worker (id, queue, host, pid, boot, born, kind, keeper, started, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET until = excluded.until;

-- name: deregister
-- Forget a worker that holds nothing.
DELETE FROM huey_worker
 WHERE id = :worker AND NOT EXISTS (SELECT 1 FROM huey_task WHERE state = 'running' AND worker = :worker);

-- name: any_worker
-- Whether anybody works on this file, for whatever queue.
SELECT 1 FROM huey_worker LIMIT 1;

-- name: tick
-- Fire one tick of a periodic task; the trigger `strike` does it.
INSERT INTO fire VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: tick_fired
-- Whether the last tick was fired by this connection.
SELECT count(*) FROM fired;

-- name: ticks
-- Last ticks.
SELECT name, tick FROM huey_periodic WHERE queue = ?;

-- name: retry_find
-- Which of these ended without success.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids));

-- name: discard_find
-- Which of these have ended.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids));

-- name: discard_results
-- What is stored as the results of ended tasks.
DELETE FROM huey_result WHERE queue = :queue AND id IN
    (SELECT id FROM huey_task
      WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids)));

-- name: discard
-- Remove ended tasks, of which none has a higher token than what is noted.
DELETE FROM huey_task
 WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: drop_waiting
-- Remove tasks that wait, for their time or for a worker and a limit, of which none has a higher token than what is noted.
DELETE FROM huey_task
 WHERE queue = :queue AND state IN ('queued', 'blocked') AND (due IS NOT NULL AND parked IS NULL) = :scheduled
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: pause
-- Stop or resume claims of a queue.
UPDATE huey_queue SET is_paused = ? WHERE id = ?;

-- name: is_paused
-- Whether a queue is paused.
SELECT is_paused FROM huey_queue WHERE id = ?;

-- name: queues
-- The queues of this file.
SELECT name FROM huey_queue ORDER BY name;

-- name: look
-- Whether a turn would find something now, and when next. Nothing while the queue is paused.
SELECT (:others AND EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NULL AND crashes = 0))
       OR (:suspects AND EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NULL AND crashes > 0)),
       (SELECT min(due) FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL)
  FROM huey_queue WHERE id = :queue AND NOT is_paused;

-- name: has_result
-- Whether one of these tasks has a result.
SELECT 1 FROM huey_result WHERE queue = ? AND id IN (SELECT value FROM json_each(?)) AND (expires IS NULL OR expires > ?) LIMIT 1;

-- name: follow
-- Make a follower known for a while.
INSERT OR REPLACE INTO huey_follower (id, queue, until) VALUES (?, ?, ?);

-- name: event_position
-- Where events stand now.
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'huey_event';

-- name: event_read
-- Events since a position.
SELECT position, body FROM huey_event WHERE queue = ? AND position > ? ORDER BY position LIMIT 1000;

-- name: publish
-- Tell events, if anybody follows.
INSERT INTO huey_event (queue, told, body)
SELECT :queue, :now, :body WHERE EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now);

-- name: is_followed
-- Whether anybody follows.
SELECT EXISTS (SELECT 1 FROM huey_follower WHERE queue = ? AND until > ?);

-- name: get
-- One task.
SELECT id, name, CASE WHEN state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL THEN 'blocked' ELSE state END,
       payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task WHERE queue = ? AND id = ?;

-- name: find_ready
-- Ready tasks in claim order.
SELECT id, name, state, payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NULL AND crashes = 0 AND (:name IS NULL OR name = :name)
 ORDER BY priority DESC, place, id LIMIT :limit;

-- name: find_suspects
-- Ready tasks that run alone, in claim order.
SELECT id, name, state, payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NULL AND crashes > 0 AND (:name IS NULL OR name = :name)
 ORDER BY priority DESC, place, id LIMIT :limit;

-- name: find_scheduled
-- Scheduled tasks, soonest first.
SELECT id, name, state, payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND parked IS NULL AND (:name IS NULL OR name = :name)
 ORDER BY due, id LIMIT :limit;

-- name: find_running
-- Running tasks, oldest first.
SELECT id, name, state, payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task INDEXED BY huey_held
 WHERE queue = :queue AND state = 'running' AND (:name IS NULL OR name = :name)
 ORDER BY created, id LIMIT :limit;

-- name: find_ended
-- Ended tasks of one state, oldest first.
SELECT id, name, state, payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task INDEXED BY huey_ended
 WHERE queue = :queue AND state = :state AND finished IS NOT NULL AND (:name IS NULL OR name = :name)
 ORDER BY created, id LIMIT :limit;

-- name: find
-- Tasks of all states, oldest first.
SELECT id, name, CASE WHEN state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL THEN 'blocked' ELSE state END,
       payload, priority, place, due, expires, retries, retry_delay, attempt, crashes, deaths, token, worker, reason,
       error, created, finished, revoked_until, options, attempts
  FROM huey_task
 WHERE queue = :queue AND (:name IS NULL OR name = :name)
   AND (:state IS NULL OR state = :state
        OR (:state = 'blocked' AND state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL))
 ORDER BY created, id LIMIT :limit;

-- name: counts
-- How many there are.
SELECT sum(state = 'queued' AND due IS NULL), sum(state = 'queued' AND due IS NOT NULL AND parked IS NULL), sum(state = 'running'),
       sum(state = 'failed'), sum(state = 'cancelled'), (SELECT count(*) FROM huey_result WHERE queue = :queue AND (expires IS NULL OR expires > :now)),
       sum(state = 'succeeded'),
       sum(state = 'blocked' OR (state = 'queued' AND due IS NOT NULL AND parked IS NOT NULL))
  FROM huey_task WHERE queue = :queue;

-- name: workers
-- Workers of a queue.
SELECT w.id, w.host, w.pid, w.boot, w.born, w.kind, w.keeper, w.until,
       (SELECT count(*) FROM huey_task AS t WHERE t.state = 'running' AND t.worker = w.id)
  FROM huey_worker AS w WHERE w.queue = ?;

-- name: result_put
-- Store a result.
INSERT OR REPLACE INTO huey_result (queue, id, expires, value) VALUES (:queue, :key, :expires, :value);

-- name: result_peek
-- Read a result.
SELECT value FROM huey_result WHERE queue = :queue AND id = :key AND (expires IS NULL OR expires > :now);

-- name: result_take
-- Remove a result that was just read, if it is still that one. (RETURNING would keep the write lock until its rows are fetched.)
DELETE FROM huey_result WHERE queue = :queue AND id = :key AND value = :value;

-- name: grab
-- Read and remove many; the trigger `gather` does it.
INSERT INTO grab VALUES (?, ?, ?, ?);

-- name: grabbed
-- What was read and removed.
SELECT key, value FROM grabbed;

-- name: result_delete
-- Remove a result.
DELETE FROM huey_result WHERE queue = :queue AND id = :key AND (expires IS NULL OR expires > :now);

-- name: result_items
-- All results.
SELECT id, value FROM huey_result WHERE queue = :queue AND (expires IS NULL OR expires > :now);

-- name: mark_put
-- Store a value.
INSERT OR REPLACE INTO huey_mark (queue, kind, key, expires, value) VALUES (:queue, :kind, :key, :expires, :value);

-- name: mark_peek
-- Read a value.
SELECT value FROM huey_mark WHERE queue = :queue AND kind = :kind AND key = :key AND (expires IS NULL OR expires > :now);

-- name: mark_take
-- Remove a value that was just read, if it is still that one.
DELETE FROM huey_mark WHERE queue = :queue AND kind = :kind AND key = :key AND value = :value;

-- name: mark_delete
-- Remove a value.
DELETE FROM huey_mark WHERE queue = :queue AND kind = :kind AND key = :key AND (expires IS NULL OR expires > :now);

-- name: mark_items
-- All values of a kind.
SELECT key, value FROM huey_mark WHERE queue = :queue AND kind = :kind AND (expires IS NULL OR expires > :now);

-- name: result_put_if_empty
-- Store a result unless a live one is there.
INSERT INTO huey_result (queue, id, expires, value) VALUES (:queue, :key, :expires, :value)
ON CONFLICT (queue, id) DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE huey_result.expires <= :now;

-- name: mark_put_if_empty
-- Store a value unless a live one is there.
INSERT INTO huey_mark (queue, kind, key, expires, value) VALUES (:queue, :kind, :key, :expires, :value)
ON CONFLICT (queue, kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE huey_mark.expires <= :now;

-- name: prune_results_find
-- Results past their time. A read, so that the scan holds no lock.
SELECT id FROM huey_result WHERE queue = :queue AND expires <= :now LIMIT 500;

-- name: prune_results
-- Remove these, unless they were written anew.
DELETE FROM huey_result WHERE queue = :queue AND expires <= :now AND id IN (SELECT value FROM json_each(:ids));

-- name: prune_marks
-- Values past their time.
DELETE FROM huey_mark WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_mark WHERE queue = :queue AND expires <= :now LIMIT 500);

-- name: prune_revocations
-- Marks of ids that never came, and those that ended, on whatever clock.
DELETE FROM huey_revocation WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_revocation WHERE queue = :queue AND (expires <= :now OR until BETWEEN 86400000000 - :now AND :now) LIMIT 500);

-- name: prune_ended_find
-- Ended tasks past their retention.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND finished IS NOT NULL AND finished <= :ended LIMIT 500;

-- name: prune_ended
-- Remove these.
DELETE FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: prune_succeeded_find
-- Succeeded tasks that are too old, or of which there are too many. A read, so that the scan holds no lock.
SELECT id FROM (SELECT id FROM huey_task
                 WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND finished <= :succeeded LIMIT 500)
 UNION
SELECT id FROM (SELECT id FROM huey_task
                 WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL
                 ORDER BY finished DESC, id DESC LIMIT 500 OFFSET :most);

-- name: prune_succeeded
-- Remove these.
DELETE FROM huey_task
 WHERE queue = :queue AND state = 'succeeded' AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: prune_events
-- Events nobody will read any more.
DELETE FROM huey_event WHERE position IN (SELECT position FROM huey_event WHERE told <= :events LIMIT 500);

-- name: prune_followers
-- Followers that went away.
DELETE FROM huey_follower WHERE until <= :now;

-- name: prune_ticks
-- Periodic tasks that nobody registered for long.
DELETE FROM huey_periodic WHERE queue = :queue AND seen <= :ended;
