-- name: stats
-- What was counted since a time.
SELECT name, start, span, enqueued, succeeded, failed, retried, cancelled, took, longest,
       ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
  FROM huey_stat WHERE queue = :queue AND span = 60 AND start > :since - 60000000
 UNION ALL
SELECT name, start, span, enqueued, succeeded, failed, retried, cancelled, took, longest,
       ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
  FROM huey_stat WHERE queue = :queue AND span = 3600 AND start > :since - 3600000000
 ORDER BY start, name, span;

-- name: stats_waiting
-- Tasks that have not ended are not counted yet: what they add, by name and minute.
SELECT name, created - created % 60000000 AS start, count(*) FROM huey_task
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked') AND start > :since - 60000000
 GROUP BY name, start;

-- name: prune_minutes_find
-- Whether a minute is to be folded. A read, since it seldom is.
SELECT 1 FROM huey_stat WHERE queue = :queue AND span = 60 AND start <= :minutes LIMIT 1;

-- name: prune_minutes
-- Fold old minutes into their hours; the trigger `fold_up` does it.
INSERT INTO fold VALUES (:queue, :minutes);

-- name: prune_minutes_count
-- How many were folded.
SELECT count(*) FROM folding;

-- name: prune_hours
-- Statistics past their time.
DELETE FROM huey_stat WHERE queue = :queue AND span = 3600 AND (start, name) IN
    (SELECT start, name FROM huey_stat WHERE queue = :queue AND span = 3600 AND start <= :hours LIMIT 500);
