-- name: lock_acquire
-- Acquire a free lock. A run of a task gets it only while it is leased.
INSERT OR REPLACE INTO huey_lock (queue, name, holder, run, host_scope, until, ends)
SELECT :queue, :name, :holder, :run, :host_scope, :until, :ends
 WHERE NOT EXISTS (SELECT 1 FROM huey_held_lock
                    WHERE queue = :queue AND name = :name AND until > :clock AND substr(host_scope, 1, length(:host_scope)) = :host_scope)
   AND (:run = 0 OR EXISTS (SELECT 1 FROM huey_task AS t CROSS JOIN huey_worker AS w ON w.id = t.worker
                             WHERE t.queue = :queue AND t.id = :holder AND t.state = 'running' AND t.token = :run
                               AND w.until > :clock AND substr(w.host_scope, 1, length(:host_scope)) = :host_scope));

-- name: lock_find
-- The holder of a lock.
SELECT token, holder, run FROM huey_held_lock
 WHERE queue = :queue AND name = :name AND until > :clock AND substr(host_scope, 1, length(:host_scope)) = :host_scope;

-- name: lock_renew
-- Extend the locks of a process.
UPDATE huey_lock SET until = :until
 WHERE queue = :queue AND holder = :holder AND run = 0 AND until > :clock AND host_scope = :host_scope AND (ends IS NULL OR ends > :clock);

-- name: lock_release
-- Release a lock that is still held with that token.
DELETE FROM huey_lock
 WHERE queue = :queue AND name = :name AND token = :token
   AND EXISTS (SELECT 1 FROM huey_held_lock
                WHERE queue = :queue AND name = :name AND until > :clock AND substr(host_scope, 1, length(:host_scope)) = :host_scope);

-- name: locks_held
-- All locks that are held.
SELECT name, token, holder, run FROM huey_held_lock
 WHERE queue = :queue AND until > :clock AND substr(host_scope, 1, length(:host_scope)) = :host_scope;

-- name: prune_locks
-- Remove locks that have expired.
DELETE FROM huey_lock WHERE queue = :queue AND token IN
    (SELECT l.token FROM huey_lock AS l
      WHERE l.queue = :queue
        AND NOT EXISTS (SELECT 1 FROM huey_held_lock AS h
                         WHERE h.token = l.token AND h.until > :clock AND substr(h.host_scope, 1, length(:host_scope)) = :host_scope)
      LIMIT $PRUNE);

-- name: rate_hit
-- Count one use in a window unless the limit is reached.
INSERT INTO huey_rate (queue, name, start, ends, used) SELECT :queue, :name, :start, :ends, 1 WHERE :limit > 0
ON CONFLICT (queue, name) DO UPDATE
   SET used = CASE WHEN start < excluded.start THEN 1 ELSE used + 1 END,
       ends = CASE WHEN start < excluded.start THEN excluded.ends ELSE ends END,
       start = max(start, excluded.start)
 WHERE :limit > 0 AND (start < excluded.start OR used < :limit);

-- name: rate_reject
-- Count one use that was rejected because the limit was reached.
INSERT INTO huey_rate (queue, name, start, ends, used) VALUES (:queue, :name, :start, :ends, 1)
ON CONFLICT (queue, name) DO UPDATE
   SET used = CASE WHEN start < excluded.start THEN 1 ELSE used + 1 END,
       ends = CASE WHEN start < excluded.start THEN excluded.ends ELSE ends END,
       start = max(start, excluded.start);

-- name: rate_usage
-- The uses in a window, rejected ones included.
SELECT used FROM huey_rate WHERE queue = :queue AND name = :name AND start >= :start;

-- name: rate_reset
-- Delete the uses of a rate.
DELETE FROM huey_rate WHERE queue = :queue AND name = :name;

-- name: prune_rates
-- Remove windows that are over.
DELETE FROM huey_rate WHERE queue = :queue AND name IN (SELECT name FROM huey_rate WHERE queue = :queue AND ends <= :now LIMIT $PRUNE);
