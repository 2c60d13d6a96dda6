-- name: note_tokens_of_ended
-- Record the tokens of ended tasks whose ids are enqueued again in a transaction of the caller. (Otherwise `replace_ended` does all four.)
UPDATE huey_queue
   SET top_token = max(top_token, coalesce((SELECT max(token) FROM huey_task
                                             WHERE queue = :queue AND finished IS NOT NULL
                                               AND id IN (SELECT value FROM json_each(:ids))), 0))
 WHERE id = :queue;

-- name: drop_results_of_ended
-- Delete the results of such tasks, even if they have no row any more.
DELETE FROM huey_result
 WHERE queue = :queue AND id IN (SELECT value FROM json_each(:ids))
   AND NOT EXISTS (SELECT 1 FROM huey_task AS t WHERE t.queue = :queue AND t.id = huey_result.id AND t.finished IS NULL);

-- name: drop_ended
-- Delete the ended tasks themselves.
DELETE FROM huey_task WHERE queue = :queue AND finished IS NOT NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: start_tokens
-- Start the tokens of the new ones above all that were recorded.
UPDATE huey_task SET token = (SELECT top_token FROM huey_queue WHERE id = :queue)
 WHERE queue = :queue AND id IN (SELECT value FROM json_each(:ids)) AND id IN (SELECT value FROM json_each(:unheld));

-- name: attach_revocations
-- Copy revocations of ids that were not held to the tasks that were just enqueued, in a transaction of the caller. (Otherwise a trigger
-- does it.)
UPDATE huey_task
   SET (revoked_until, revoked_once) = (SELECT until, once FROM huey_revocation AS r
                                         WHERE r.queue = huey_task.queue AND r.kind = 'i' AND r.key = huey_task.id)
 WHERE queue = :queue AND state = 'queued' AND revoked_until IS NULL
   AND id IN (SELECT key FROM huey_revocation
               WHERE queue = :queue AND kind = 'i' AND expires > :now AND key IN (SELECT value FROM json_each(:ids)));

-- name: drop_attached_revocations
-- Delete the revocations that were copied.
DELETE FROM huey_revocation WHERE queue = :queue AND kind = 'i' AND expires > :now AND key IN (SELECT value FROM json_each(:ids));

-- name: revoke
-- Revoke tasks that are held: of any enqueue, or of one (`own`).
UPDATE huey_task SET revoked_until = :until, revoked_once = :once
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked', 'waiting') AND id IN (SELECT value FROM json_each(:ids))
   AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue);

-- name: revoke_unheld
-- Record revocations of ids that are not held (kind i), or of one enqueue that is not held (kind e).
INSERT OR REPLACE INTO huey_revocation (queue, kind, key, until, once, expires)
SELECT :queue, iif(:enqueue IS NULL, 'i', 'e'), iif(:enqueue IS NULL, value, :enqueue || ':' || value), :until, :once, :expires
  FROM json_each(:ids)
 WHERE NOT EXISTS (SELECT 1 FROM huey_task
                    WHERE queue = :queue AND id = value
                      AND (coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue
                           OR (:enqueue IS NULL AND (finished IS NULL OR json_extract(options, '$.constraints.own') IS NULL))));

-- name: restore_find
-- Find which of these ids are revoked and have not ended.
SELECT id FROM huey_task
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked', 'waiting') AND revoked_until IS NOT NULL
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
-- Restore tasks that are held.
UPDATE huey_task SET revoked_until = NULL, revoked_once = NULL
 WHERE queue = :queue AND state IN ('queued', 'running', 'blocked', 'waiting') AND id IN (SELECT value FROM json_each(:ids))
   AND (:enqueue IS NULL OR coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue);

-- name: restore_unheld
-- Delete revocations of ids that are not held, or of one enqueue.
DELETE FROM huey_revocation
 WHERE queue = :queue AND expires > :now
   AND ((kind = 'i' AND :enqueue IS NULL AND key IN (SELECT value FROM json_each(:ids))
         AND NOT EXISTS (SELECT 1 FROM huey_task
                          WHERE queue = :queue AND id = key AND (finished IS NULL OR json_extract(options, '$.constraints.own') IS NULL)))
        OR (kind = 'e' AND key IN (SELECT :enqueue || ':' || value FROM json_each(:ids))
            AND NOT EXISTS (SELECT 1 FROM huey_task
                             WHERE queue = :queue AND id = substr(key, instr(key, ':') + 1)
                               AND coalesce(json_extract(options, '$.constraints.own'), 0) = :enqueue)));

-- name: revoke_name
-- Revoke all tasks of a name.
INSERT OR REPLACE INTO huey_revocation (queue, kind, key, until, once, expires) VALUES (?, 'n', ?, ?, ?, NULL);

-- name: restore_name
-- Restore all tasks of a name.
DELETE FROM huey_revocation WHERE queue = ? AND kind = 'n' AND key = ?;

-- name: revocation
-- Find the revocation of a task, of an id that is not held, or of a name, in this order.
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
-- The highest token among these tasks, if it is above the recorded one.
SELECT max(token) FROM huey_task
 WHERE queue = :queue AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
HAVING max(token) > (SELECT top_token FROM huey_queue WHERE id = :queue);

-- name: top_token
-- Record a token before its task is deleted.
UPDATE huey_queue SET top_token = max(top_token, :token) WHERE id = :queue;

-- name: flush_tasks
-- Delete all tasks whose tokens are recorded.
DELETE FROM huey_task WHERE queue = :queue AND token <= (SELECT top_token FROM huey_queue WHERE id = :queue);
