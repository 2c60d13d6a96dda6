-- name: token_of_former
-- Ids that come again, in a transaction of the caller: the tokens of what has ended are noted. (Else a trigger does it.)
UPDATE huey_queue
   SET top_token = max(top_token, coalesce((SELECT max(token) FROM huey_task
                                             WHERE queue = :queue AND finished IS NOT NULL
                                               AND id IN (SELECT value FROM json_each(:ids))), 0))
 WHERE id = :queue;

-- name: former_results
-- The results of what has ended go, also where nothing else is left of it.
DELETE FROM huey_result
 WHERE queue = :queue AND id IN (SELECT value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = :queue AND t.id = huey_result.id AND t.finished IS NULL);

-- name: formers
-- And so does what has ended.
DELETE FROM huey_task WHERE queue = :queue AND finished IS NOT NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: begin_above
-- The tokens of what comes again begin above all that are noted.
UPDATE huey_task SET token = (SELECT top_token FROM huey_queue WHERE id = :queue)
 WHERE queue = :queue AND id IN (SELECT value FROM json_each(:ids)) AND id IN (SELECT value FROM json_each(:unheld));

-- name: hand_over
-- Print the marks that were left for ids on tasks that were put in just now, in a transaction of the caller. (Else a trigger does it.)
UPDATE huey_task
   SET (revoked_until, revoked_once) = (SELECT until, once FROM huey_revocation AS r
                                         WHERE r.queue = huey_task.queue AND r.kind = 'i' AND r.key = huey_task.id)
 WHERE queue = :queue AND state = 'queued' AND revoked_until IS NULL
   AND id IN (SELECT key FROM huey_revocation
               WHERE queue = :queue AND kind = 'i' AND expires > :now AND key IN (SELECT value FROM json_each(:ids)));

-- name: handed_over
-- These marks are with their tasks now.
DELETE FROM huey_revocation WHERE queue = :queue AND kind = 'i' AND expires > :now AND key IN (SELECT value FROM json_each(:ids));

-- name: cancel
-- Mark tasks that are held; of one enqueue, if that is meant.
UPDATE huey_task SET revoked_until = :until, revoked_once = :once
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked') AND id IN (SELECT value FROM json_each(:ids))
   AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue);

-- name: cancel_unheld
-- Leave marks for ids that are not held (i), or for enqueues that are not known (e).
INSERT OR REPLACE INTO huey_revocation (queue, kind, key, until, once, expires)
SELECT :queue, iif(:enqueue IS NULL, 'i', 'e'), iif(:enqueue IS NULL, value, :enqueue || ':' || value), :until, :once, :expires
  FROM json_each(:ids)
 WHERE NOT EXISTS (SELECT 1 FROM huey_task
                    WHERE queue = :queue AND id = value
                      AND (coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue
                           OR (:enqueue IS NULL AND (finished IS NULL OR json_extract(options, '$.constraints.own') IS NULL))));

-- name: restore_find
-- Which of these are marked and did not end.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked') AND revoked_until IS NOT NULL
   AND id IN (SELECT value FROM json_each(:ids)) AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue)
UNION
SELECT key FROM huey_revocation
 WHERE queue = :queue AND kind = 'i' AND :enqueue IS NULL AND expires > :now AND key IN (SELECT value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM huey_task
                    WHERE queue = :queue AND id = key AND (finished IS NULL OR json_extract(options, '$.constraints.own') IS NULL))
UNION
SELECT substr(key, instr(key, ':') + 1) FROM huey_revocation
 WHERE queue = :queue AND kind = 'e' AND expires > :now AND key IN (SELECT :enqueue || ':' || value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM huey_task
                    WHERE queue = :queue AND id = substr(key, instr(key, ':') + 1)
                      AND coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue);

-- name: restore
-- Take marks of held tasks back.
UPDATE huey_task SET revoked_until = NULL, revoked_once = NULL
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked') AND id IN (SELECT value FROM json_each(:ids))
   AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue);

-- name: restore_unheld
-- Take marks of ids that are not held, or of one enqueue, back.
DELETE FROM huey_revocation
 WHERE queue = :queue AND expires > :now
   AND ((kind = 'i' AND :enqueue IS NULL AND key IN (SELECT value FROM json_each(:ids))
         AND NOT EXISTS (SELECT 1 FROM huey_task
                          WHERE queue = :queue AND id = key AND (finished IS NULL OR json_extract(options, '$.constraints.own') IS NULL)))
        OR (kind = 'e' AND key IN (SELECT :enqueue || ':' || value FROM json_each(:ids))
            AND NOT EXISTS (SELECT 1 FROM huey_task
                             WHERE queue = :queue AND id = substr(key, instr(key, ':') + 1)
                               AND coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue)));

-- name: cancel_name
-- Mark every task of a name.
INSERT OR REPLACE INTO huey_revocation (queue, kind, key, until, once, expires) VALUES (?, 'n', ?, ?, ?, NULL);

-- name: restore_name
-- Take that mark back.
DELETE FROM huey_revocation WHERE queue = ? AND kind = 'n' AND key = ?;

-- name: revocation
-- The mark of a task, of an unheld id, or of a name, in this order.
SELECT until, once FROM (
    SELECT 1 AS rank, revoked_until AS until, revoked_once AS once FROM huey_task
     WHERE queue = :queue AND id = :id AND revoked_until IS NOT NULL
       AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue)
    UNION ALL
    SELECT 2, until, once FROM huey_revocation
     WHERE queue = :queue AND kind = iif(:enqueue IS NULL, 'i', 'e') AND key = iif(:enqueue IS NULL, :id, :enqueue || ':' || :id)
       AND expires > :now
    UNION ALL
    SELECT 3, until, once FROM huey_revocation WHERE queue = :queue AND kind = 'n' AND key = :name
) ORDER BY rank LIMIT 1;

-- name: top_token_of
-- The highest token among these, if it is above what is noted.
SELECT max(token) FROM huey_task
 WHERE queue = :queue AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
HAVING max(token) > (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: top_token
-- Note a token before its task goes.
UPDATE huey_queue SET top_token = max(top_token, :token) WHERE id = :queue;

-- name: flush_tasks
-- Remove all tasks whose tokens are noted.
DELETE FROM huey_task WHERE queue = :queue AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);
