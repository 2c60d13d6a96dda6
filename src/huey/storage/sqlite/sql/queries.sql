-- name: queue_make
-- Register a queue.
INSERT OR IGNORE INTO huey_queue (name) VALUES (?);

-- name: queue_id
-- The number of a queue.
SELECT id FROM huey_queue WHERE name = ?;

-- name: enqueue
-- Enqueue staged tasks and publish events: fires the trigger `insert_incoming`.
INSERT INTO enqueue_request VALUES (?, ?, ?, ?);

-- name: enqueue_context
-- What an enqueue needs to know: whether there are followers, and revocations of ids that were not held.
SELECT EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now),
       EXISTS (SELECT 1 FROM huey_revocation WHERE queue = :queue AND kind = 'i');

-- name: unheld
-- Find which of these ids are not held.
SELECT value FROM json_each(:ids) WHERE NOT EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND id = value);

-- name: turn
-- One turn of a worker: fires the trigger `do_turn`.
INSERT INTO turn_request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: lease_columns
-- Columns of a lease. Other statements name them as $lease_columns.
t.id, t.token, t.name, t.payload, t.priority, t.ready_at, t.expires, t.retries, t.retry_delay, t.attempt, t.solo_crashes, t.deaths,
       t.unknown_until, t.options, t.created

-- name: task_columns
-- Columns of a task for people. Other statements name them as $task_columns.
id, name, CASE WHEN state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL THEN 'blocked' ELSE state END, payload, priority,
       ready_at, due, expires, retries, retry_delay, attempt, solo_crashes, deaths, token, worker, reason, error, created, finished,
       revoked_until, options, attempts

-- name: turn_leases
-- The tasks that the turn claimed, in the order of claims.
SELECT $lease_columns
  FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = c.id
 WHERE t.worker = :worker AND t.state = 'running'
 ORDER BY c.n;

-- name: turn_cancelled
-- The tasks that the turn cancelled instead of claiming them.
SELECT t.id, t.name, t.reason, max(0, t.retries - t.attempt), t.retry_delay
  FROM claimed AS c CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = c.id
 WHERE t.worker = :worker AND t.state = 'cancelled'
 ORDER BY c.n;

-- name: turn_control
-- What else a worker needs to know after its turn: counts, and whether the other queries would find rows.
SELECT (SELECT count(*) FROM stale),
       (SELECT count(*) FROM promoted),
       (SELECT count(*) FROM claimed),
       (SELECT min(at) FROM (SELECT min(due) AS at FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL
                              UNION ALL SELECT min(ends) FROM huey_window WHERE queue = :queue AND is_awaited = 1)),
       (SELECT is_paused FROM huey_queue WHERE id = :queue),
       EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now),
       EXISTS (SELECT 1 FROM huey_task WHERE worker = :worker AND state = 'running' AND revoked_until IS NOT NULL AND revoked_until NOT BETWEEN -:wall AND :now),
       EXISTS (SELECT 1 FROM over_byte_limit),
       EXISTS (SELECT 1 FROM opened);

-- name: turn_stale
-- Stale finishes.
SELECT id FROM stale;

-- name: turn_promoted
-- Scheduled tasks that became ready.
SELECT t.id, t.name, max(0, t.retries - t.attempt), t.retry_delay FROM promoted AS p CROSS JOIN huey_task AS t ON t.queue = ? AND t.id = p.id;

-- name: turn_revoked
-- Running tasks of a worker that were revoked.
SELECT id FROM huey_task WHERE worker = :worker AND state = 'running' AND revoked_until IS NOT NULL AND revoked_until NOT BETWEEN -:wall AND :now;

-- name: release
-- Release tasks that never started, at their old place in the order.
UPDATE huey_task SET state = 'queued', worker = NULL, crashed_worker = NULL
 WHERE queue = :queue AND state = 'running' AND worker = :worker
   AND (id, token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases));

-- name: mend_states_find
-- Of the next tasks by id: the last one, whether it is the last of all, and how many have an unknown state. (An index of just those would
-- cost each claim and each finish more than this scan costs now and then.)
SELECT max(id), count(*) < :most, total(state = 'waiting'), total(state NOT IN ('waiting', 'queued', 'blocked', 'running', 'succeeded', 'failed', 'cancelled'))
  FROM (SELECT id, state FROM huey_task WHERE queue = :queue AND id > :after ORDER BY id LIMIT :most);

-- name: mend_states
-- Fail tasks with unknown states.
UPDATE huey_task SET state = 'failed', reason = 'undecodable', finished = :now, worker = NULL
 WHERE queue = :queue AND id > :after AND id <= :last
   AND state NOT IN ('waiting', 'queued', 'blocked', 'running', 'succeeded', 'failed', 'cancelled');

-- name: mend_workers
-- Treat a lease whose end is not a number as expired.
UPDATE huey_worker SET until = 0 WHERE queue = :queue AND typeof(until) <> 'integer';

-- name: mend_running
-- Requeue running tasks whose worker is not registered.
UPDATE huey_task SET state = 'queued', worker = NULL
 WHERE queue = :queue AND state = 'running' AND concurrency_key IS NULL
   AND NOT EXISTS (SELECT 1 FROM huey_worker AS w WHERE w.id = huey_task.worker);

-- name: missing
-- The functions and classes that blocked tasks need and no worker had.
SELECT DISTINCT name, reason FROM huey_task INDEXED BY huey_missing
 WHERE queue = ? AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL;

-- name: missing_find
-- The best blocked tasks that need one of these functions or classes. None while the queue is paused.
SELECT id, length(payload) FROM huey_task INDEXED BY huey_missing
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL AND due > :now
   AND (name, reason) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:missing))
   AND NOT EXISTS (SELECT 1 FROM huey_queue WHERE id = :queue AND is_paused)
 ORDER BY priority DESC, ready_at, id LIMIT :want;

-- name: missing_claim
-- Lease those that have nothing that only a turn checks: constraints, crashes, revocations, expiry.
UPDATE huey_task SET state = 'running', worker = :worker, token = token + 1, due = NULL, reason = NULL
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL AND id IN (SELECT value FROM json_each(:ids))
   AND concurrency_key IS NULL AND wanted_key IS NULL AND solo_crashes = 0 AND coalesce(revoked_until, 0) BETWEEN 0 AND :now AND coalesce(expires, :now + 1) > :now
   AND NOT EXISTS (SELECT 1 FROM huey_revocation AS r WHERE r.queue = :queue AND r.kind = 'n' AND r.key = huey_task.name
                                                        AND r.until NOT BETWEEN 0 AND :now);

-- name: missing_open
-- Make the others due, so that a turn claims them.
UPDATE huey_task SET due = :now
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: missing_leases
-- The tasks that were leased.
SELECT $lease_columns
  FROM huey_task AS t
 WHERE queue = :queue AND state = 'running' AND worker = :worker AND id IN (SELECT value FROM json_each(:ids))
 ORDER BY priority DESC, ready_at, id;

-- name: reclaim
-- Take over the tasks of a dead worker: fires the trigger `do_reclaim`.
INSERT INTO reclaim_request VALUES (?, ?, ?, ?);

-- name: reclaim_leases
-- The tasks that were taken over.
SELECT $lease_columns
  FROM reclaimed AS k CROSS JOIN huey_task AS t ON t.queue = :queue AND t.id = k.id
 WHERE t.worker = :worker;

-- name: leases
-- The tasks that a worker holds.
SELECT $lease_columns
  FROM huey_task AS t WHERE worker = :worker AND state = 'running' AND queue = :queue;

-- name: heartbeat
-- Register a worker, or renew its lease.
INSERT INTO huey_worker (id, queue, host, pid, host_scope, start_time, kind, supervisor, started, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET until = excluded.until;

-- name: deregister
-- Remove a worker that holds no tasks.
DELETE FROM huey_worker
 WHERE id = :worker AND NOT EXISTS (SELECT 1 FROM huey_task WHERE state = 'running' AND worker = :worker);

-- name: any_worker
-- Whether any worker is registered, for any queue of the file.
SELECT 1 FROM huey_worker LIMIT 1;

-- name: tick
-- Fire one tick of a periodic task: fires the trigger `fire_tick`.
INSERT INTO tick_request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: tick_fired
-- Whether the last tick was fired by this connection.
SELECT count(*) FROM fired_ticks;

-- name: ticks
-- The last tick of each periodic task.
SELECT name, tick FROM huey_periodic WHERE queue = ?;

-- name: retry_find
-- Find which of these tasks failed or were cancelled.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids))
   AND (state = 'failed' OR reason IS NULL OR reason NOT IN ('parent failed', 'parent skipped'));

-- name: discard_find
-- Find which of these tasks have ended.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids));

-- name: discard_results
-- Delete the results of ended tasks.
DELETE FROM huey_result WHERE queue = :queue AND id IN
    (SELECT id FROM huey_task
      WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids)));

-- name: discard
-- Delete ended tasks, unless their token is above the recorded top token.
DELETE FROM huey_task
 WHERE queue = :queue AND state IN ('succeeded', 'failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: keep
-- Keep tasks until another time, if they are kept for a time of their own.
UPDATE huey_task SET due = :until
 WHERE queue = :queue AND state = 'succeeded' AND due IS NOT NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: keep_results
-- And their results.
UPDATE huey_result SET expires = max(expires, :until + $KEPT_RESULT)
 WHERE queue = :queue AND id IN
    (SELECT id FROM huey_task
      WHERE queue = :queue AND state = 'succeeded' AND due IS NOT NULL AND id IN (SELECT value FROM json_each(:ids)));

-- name: pause
-- Pause or resume a queue.
UPDATE huey_queue SET is_paused = ? WHERE id = ?;

-- name: queues
-- The queues of this file.
SELECT name FROM huey_queue ORDER BY name;

-- name: is_claimable
-- Whether a turn would claim a task now, and when the next one is due or a window ends. No row while the queue is paused.
SELECT (:others AND EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NULL AND solo_crashes = 0))
       OR (:suspects AND EXISTS (SELECT 1 FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NULL AND solo_crashes > 0)),
       (SELECT min(at) FROM (SELECT min(due) AS at FROM huey_task WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL
                              UNION ALL SELECT min(ends) FROM huey_window WHERE queue = :queue AND is_awaited = 1))
  FROM huey_queue WHERE id = :queue AND NOT is_paused;

-- name: has_result
-- Whether one of these tasks has a result.
SELECT 1 FROM huey_result WHERE queue = ? AND id IN (SELECT value FROM json_each(?)) AND (expires IS NULL OR expires > ?) LIMIT 1;

-- name: follow
-- Register a follower for a limited time.
INSERT OR REPLACE INTO huey_follower (id, queue, until) VALUES (?, ?, ?);

-- name: event_position
-- The position of the last event.
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'huey_event';

-- name: event_read
-- Events since a position.
SELECT position, body FROM huey_event WHERE queue = ? AND position > ? ORDER BY position LIMIT 1000;

-- name: publish
-- Publish events if there are followers.
INSERT INTO huey_event (queue, published_at, body)
SELECT :queue, :now, :body WHERE EXISTS (SELECT 1 FROM huey_follower WHERE queue = :queue AND until > :now);

-- name: is_followed
-- Whether there are followers.
SELECT EXISTS (SELECT 1 FROM huey_follower WHERE queue = ? AND until > ?);

-- name: get
-- One task.
SELECT $task_columns
  FROM huey_task WHERE queue = ? AND id = ?;

-- name: find_ready
-- Ready tasks in claim order.
SELECT $task_columns
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NULL AND solo_crashes = 0 AND (:name IS NULL OR name = :name)
 ORDER BY priority DESC, ready_at, id LIMIT :limit;

-- name: find_suspects
-- Ready tasks that run alone, in claim order.
SELECT $task_columns
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NULL AND solo_crashes > 0 AND (:name IS NULL OR name = :name)
 ORDER BY priority DESC, ready_at, id LIMIT :limit;

-- name: find_scheduled
-- Scheduled tasks, soonest first.
SELECT $task_columns
  FROM huey_task
 WHERE queue = :queue AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NULL AND (:name IS NULL OR name = :name)
 ORDER BY due, id LIMIT :limit;

-- name: find_running
-- Running tasks, oldest first.
SELECT $task_columns
  FROM huey_task INDEXED BY huey_held
 WHERE queue = :queue AND state = 'running' AND (:name IS NULL OR name = :name)
 ORDER BY created, id LIMIT :limit;

-- name: find_kept
-- Succeeded tasks that are kept for a time of their own, the first to go first.
SELECT $task_columns
  FROM huey_task INDEXED BY huey_kept
 WHERE queue = :queue AND state = 'succeeded' AND due IS NOT NULL AND (:name IS NULL OR name = :name)
 ORDER BY due, id LIMIT :limit;

-- name: find_ended
-- Ended tasks of one state, oldest first.
SELECT $task_columns
  FROM huey_task INDEXED BY huey_ended
 WHERE queue = :queue AND state = :state AND finished IS NOT NULL AND (:name IS NULL OR name = :name)
 ORDER BY created, id LIMIT :limit;

-- name: find
-- Tasks of all states, oldest first.
SELECT $task_columns
  FROM huey_task
 WHERE queue = :queue AND (:name IS NULL OR name = :name)
   AND (:state IS NULL OR state = :state
        OR (:state = 'blocked' AND state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL))
 ORDER BY created, id LIMIT :limit;

-- name: counts
-- The number of tasks by state, and of results.
SELECT sum(state = 'queued' AND due IS NULL), sum(state = 'queued' AND due IS NOT NULL AND unknown_until IS NULL), sum(state = 'running'),
       sum(state = 'failed'), sum(state = 'cancelled'), (SELECT count(*) FROM huey_result WHERE queue = :queue AND (expires IS NULL OR expires > :now)),
       sum(state = 'succeeded'),
       sum(state = 'blocked' OR (state = 'queued' AND due IS NOT NULL AND unknown_until IS NOT NULL)),
       (SELECT is_paused FROM huey_queue WHERE id = :queue), sum(state = 'waiting')
  FROM huey_task WHERE queue = :queue;

-- name: workers
-- Workers of a queue.
SELECT w.id, w.host, w.pid, w.host_scope, w.start_time, w.kind, w.supervisor, w.until,
       (SELECT count(*) FROM huey_task AS t WHERE t.state = 'running' AND t.worker = w.id)
  FROM huey_worker AS w WHERE w.queue = ?;

-- name: result_put
-- Store a result.
INSERT OR REPLACE INTO huey_result (queue, id, expires, value) VALUES (:queue, :key, :expires, :value);

-- name: result_peek
-- Read a result.
SELECT value FROM huey_result WHERE queue = :queue AND id = :key AND (expires IS NULL OR expires > :now);

-- name: result_take
-- Remove a result that was just read, if it is still the same. (RETURNING would keep the write lock until its rows are fetched.)
DELETE FROM huey_result WHERE queue = :queue AND id = :key AND value = :value;

-- name: pop_many
-- Read and remove many results or values: fires the trigger `pop_values`.
INSERT INTO pop_request VALUES (?, ?, ?, ?);

-- name: popped
-- The results or values that were removed.
SELECT key, value FROM popped;

-- name: result_items
-- All results.
SELECT id, value FROM huey_result WHERE queue = :queue AND (expires IS NULL OR expires > :now);

-- name: value_put
-- Store a value.
INSERT OR REPLACE INTO huey_value (queue, kind, key, expires, value) VALUES (:queue, :kind, :key, :expires, :value);

-- name: value_peek
-- Read a value.
SELECT value FROM huey_value WHERE queue = :queue AND kind = :kind AND key = :key AND (expires IS NULL OR expires > :now);

-- name: value_take
-- Remove a value that was just read, if it is still the same.
DELETE FROM huey_value WHERE queue = :queue AND kind = :kind AND key = :key AND value = :value;

-- name: value_items
-- All values of a kind.
SELECT key, value FROM huey_value WHERE queue = :queue AND kind = :kind AND (expires IS NULL OR expires > :now);

-- name: result_put_if_empty
-- Store a result unless there is one that has not expired.
INSERT INTO huey_result (queue, id, expires, value) VALUES (:queue, :key, :expires, :value)
ON CONFLICT (queue, id) DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE huey_result.expires <= :now;

-- name: value_put_if_empty
-- Store a value unless there is one that has not expired.
INSERT INTO huey_value (queue, kind, key, expires, value) VALUES (:queue, :kind, :key, :expires, :value)
ON CONFLICT (queue, kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE huey_value.expires <= :now;

-- name: prune_results_find
-- Expired results. A read, so that the scan holds no lock.
SELECT id FROM huey_result WHERE queue = :queue AND expires <= :now LIMIT $PRUNE;

-- name: prune_results
-- Delete those results, unless they were written again meanwhile.
DELETE FROM huey_result WHERE queue = :queue AND expires <= :now AND id IN (SELECT value FROM json_each(:ids));

-- name: prune_values
-- Expired values.
DELETE FROM huey_value WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_value WHERE queue = :queue AND expires <= :now LIMIT $PRUNE);

-- name: prune_revocations
-- Remove revocations of ids that were never enqueued, and those that have ended on every clock.
DELETE FROM huey_revocation WHERE queue = :queue AND (kind, key) IN
    (SELECT kind, key FROM huey_revocation WHERE queue = :queue AND (expires <= :now OR until BETWEEN 86400000000 - :now AND :now) LIMIT $PRUNE);

-- name: prune_ended_find
-- Ended tasks past their retention.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND finished IS NOT NULL AND finished <= :ended LIMIT $PRUNE;

-- name: prune_ended
-- Delete these.
DELETE FROM huey_task
 WHERE queue = :queue AND state IN ('failed', 'cancelled') AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: prune_succeeded_find
-- Succeeded tasks whose own time is over; others that are too old, or of which there are too many. A read, so that the scan holds no lock.
SELECT id FROM (SELECT id FROM huey_task INDEXED BY huey_kept
                 WHERE queue = :queue AND state = 'succeeded' AND due IS NOT NULL AND due <= :now ORDER BY due, id LIMIT $PRUNE)
 UNION
SELECT id FROM (SELECT id FROM huey_task
                 WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND finished <= :succeeded AND due IS NULL LIMIT $PRUNE)
 UNION
SELECT id FROM (SELECT id FROM huey_task
                 WHERE queue = :queue AND state = 'succeeded' AND finished IS NOT NULL AND due IS NULL
                 ORDER BY finished DESC, id DESC LIMIT $PRUNE OFFSET :most);

-- name: prune_succeeded
-- Delete these.
DELETE FROM huey_task
 WHERE queue = :queue AND state = 'succeeded' AND coalesce(due, 0) <= :now AND id IN (SELECT value FROM json_each(:ids))
   AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: prune_events
-- Events past their retention.
DELETE FROM huey_event WHERE position IN (SELECT position FROM huey_event WHERE published_at <= :events LIMIT $PRUNE);

-- name: prune_followers
-- Followers that stopped following.
DELETE FROM huey_follower WHERE until <= :now;

-- name: prune_ticks
-- Periodic tasks that no scheduler has fired for a long time.
DELETE FROM huey_periodic WHERE queue = :queue AND seen <= :ended;
