-- name: stats
-- Statistics since a time.
SELECT name, start, span, enqueued, succeeded, failed, retried, cancelled, duration, longest,
       ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
  FROM huey_stats WHERE queue = :queue AND span = 60 AND start > :since - 60000000
 UNION ALL
SELECT name, start, span, enqueued, succeeded, failed, retried, cancelled, duration, longest,
       ms1, ms3, ms10, ms30, ms100, ms300, s1, s3, s10, s30, s100, s300, s1000, s3000, s10000, longer
  FROM huey_stats WHERE queue = :queue AND span = 3600 AND start > :since - 3600000000
 ORDER BY start, name, span;

-- name: stats_pending
-- Tasks that have not ended, which statistics do not count yet, by name and minute.
SELECT name, created - created % 60000000 AS start, count(*) FROM huey_task
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked', 'waiting') AND start > :since - 60000000
 GROUP BY name, start;

-- name: prune_minutes_find
-- Check whether there are minutes to roll up. This is a read, because there seldom are.
SELECT 1 FROM huey_stats WHERE queue = :queue AND span = 60 AND start <= :minutes LIMIT 1;

-- name: prune_minutes
-- Roll old minutes up into hours: fires the trigger `roll_up_stats`.
INSERT INTO roll_up_request VALUES (:queue, :minutes);

-- name: prune_minutes_count
-- The number of minute rows that were rolled up.
SELECT count(*) FROM rolled_up;

-- name: prune_hours
-- Remove hours that are past their retention.
DELETE FROM huey_stats WHERE queue = :queue AND span = 3600 AND (start, name) IN
    (SELECT start, name FROM huey_stats WHERE queue = :queue AND span = 3600 AND start <= :hours LIMIT $PRUNE);
