-- name: schema
-- (SQLite) Everything huey keeps in a file. The names begin with huey_, so that an application may keep its own tables beside them.
-- Times are microseconds UTC; a worker's `until` is on the machine's monotonic clock, valid within one boot.

CREATE TABLE IF NOT EXISTS huey_meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_queue (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    is_paused INTEGER NOT NULL DEFAULT 0,
    -- No task that has gone had a higher token. An id that comes again begins above it. 1: that of most, which never come again
    top_token INTEGER NOT NULL DEFAULT 1
);

-- One row per task that has not succeeded (or is kept after that). `due` is NULL once the task is ready; `place` is when it became ready.
-- `attempts`: JSON list of the last runs that failed. `lost_by`: while a janitor holds it, JSON of the worker that died over it.
-- `unique_key`: the key it holds, `wish`: the one it would hold again. `limit_key`: at most `at_most` tasks of it are queued or running, the
-- others are 'blocked'.
CREATE TABLE IF NOT EXISTS huey_task (
    queue         INTEGER NOT NULL,
    id            TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    priority      INTEGER NOT NULL,
    place         INTEGER NOT NULL,
    due           INTEGER,
    expires       INTEGER,
    retries       INTEGER NOT NULL,
    retry_delay   REAL    NOT NULL,
    attempt       INTEGER NOT NULL DEFAULT 0,
    crashes       INTEGER NOT NULL DEFAULT 0,
    deaths        INTEGER NOT NULL DEFAULT 0,
    token         INTEGER NOT NULL DEFAULT 0,
    worker        TEXT,
    created       INTEGER NOT NULL,
    finished      INTEGER,
    parked        INTEGER,
    revoked_until INTEGER,
    revoked_once  INTEGER,
    unique_key    TEXT,
    parents       INTEGER NOT NULL DEFAULT 0,
    reason        TEXT,
    options       TEXT,
    payload       BLOB    NOT NULL,
    error         TEXT,
    attempts      TEXT,
    lost_by       TEXT,
    wish          TEXT,
    limit_key     TEXT,
    at_most       INTEGER,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

-- Two lanes: a task that may have killed its worker (crashes > 0) waits apart.
CREATE INDEX IF NOT EXISTS huey_ready ON huey_task (queue, priority DESC, place, id) WHERE due IS NULL AND crashes = 0 AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_suspect ON huey_task (queue, priority DESC, place, id) WHERE crashes > 0 AND due IS NULL AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_scheduled ON huey_task (queue, due) WHERE due IS NOT NULL AND state = 'queued';
-- Those that wait for a worker that can run them: scheduled for the end of their time, `parked`. `reason` says what is missing.
CREATE INDEX IF NOT EXISTS huey_missing ON huey_task (queue, name, reason) WHERE parked IS NOT NULL AND due IS NOT NULL AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_held ON huey_task (worker) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS huey_stopping ON huey_task (worker) WHERE revoked_until IS NOT NULL AND state = 'running';
CREATE INDEX IF NOT EXISTS huey_ended ON huey_task (queue, state, finished) WHERE finished IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS huey_unique ON huey_task (queue, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS huey_wishing ON huey_task (queue) WHERE wish IS NOT NULL AND finished IS NULL;
CREATE INDEX IF NOT EXISTS huey_limit ON huey_task (queue, limit_key, state, due, priority DESC, place, id)
    WHERE limit_key IS NOT NULL AND finished IS NULL;
-- Heavy: more than 32 KiB, so that 256 light ones, the most that a worker asks for, are 8 MiB.
CREATE INDEX IF NOT EXISTS huey_heavy ON huey_task (queue) WHERE length(payload) > 32768 AND state = 'queued';

-- Edges of workflows: `child` waits for `parent`. kind: then, error, join.
CREATE TABLE IF NOT EXISTS huey_edge (
    queue    INTEGER NOT NULL,
    parent   TEXT    NOT NULL,
    child    TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    position INTEGER NOT NULL,
    value    BLOB,
    PRIMARY KEY (queue, parent, child, kind, position)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_result (
    queue   INTEGER NOT NULL,
    id      TEXT    NOT NULL,
    expires INTEGER,
    value   BLOB    NOT NULL,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_mark (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    expires INTEGER,
    value   BLOB    NOT NULL,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Revocations of what is not a row of huey_task: an id nobody holds (kind i), one enqueue of such an id (kind e; key: its instant, a colon,
-- the id), all tasks of a name (kind n).
CREATE TABLE IF NOT EXISTS huey_revocation (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    once    INTEGER NOT NULL,
    expires INTEGER,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Held by the clock: ids that stay known (kind id), unique keys for a time (kind unique). `id`: the task that holds it.
CREATE TABLE IF NOT EXISTS huey_kept (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Locks. The holder is a run of a task (`run` is its token), or a process (`run` 0) until the time `until` of that boot, which is on the
-- monotonic clock; nobody beyond `ends`, which is on it too (null: no such end). The token only grows.
CREATE TABLE IF NOT EXISTS huey_lock (
    token  INTEGER PRIMARY KEY AUTOINCREMENT,
    queue  INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    holder TEXT    NOT NULL,
    run    INTEGER NOT NULL,
    boot   TEXT    NOT NULL,
    until  INTEGER NOT NULL,
    ends   INTEGER,
    UNIQUE (queue, name)
);

-- Locks with their end: that of their holders' leases, which for a run of a task is that of its worker (a run that is over has none), or
-- their own, if that comes first.
DROP VIEW IF EXISTS huey_holding;
CREATE VIEW huey_holding AS
SELECT l.token, l.queue, l.name, l.holder, l.run,
       CASE l.run WHEN 0 THEN l.boot ELSE w.boot END AS boot,
       CASE WHEN l.ends < (CASE l.run WHEN 0 THEN l.until ELSE w.until END) THEN l.ends
            ELSE (CASE l.run WHEN 0 THEN l.until ELSE w.until END) END AS until
  FROM huey_lock AS l
  LEFT JOIN huey_task AS t ON l.run > 0 AND t.queue = l.queue AND t.id = l.holder AND t.token = l.run AND t.state = 'running'
  LEFT JOIN huey_worker AS w ON w.id = t.worker;

-- Rates: uses in the last window of each name.
CREATE TABLE IF NOT EXISTS huey_rate (
    queue INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    start INTEGER NOT NULL,
    ends  INTEGER NOT NULL,
    used  INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_periodic (
    queue INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    tick  INTEGER NOT NULL,
    seen  INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

-- What was counted: one row per task name and minute (span 60), later per hour (span 3600). took, longest: microseconds. The last columns
-- are a histogram: how many runs took up to 1 ms, up to 3 ms, ... up to 10,000 s, and longer.
CREATE TABLE IF NOT EXISTS huey_stat (
    queue     INTEGER NOT NULL,
    span      INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    enqueued  INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    retried   INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    took      INTEGER NOT NULL DEFAULT 0,
    longest   INTEGER NOT NULL DEFAULT 0,
    ms1       INTEGER NOT NULL DEFAULT 0,
    ms3       INTEGER NOT NULL DEFAULT 0,
    ms10      INTEGER NOT NULL DEFAULT 0,
    ms30      INTEGER NOT NULL DEFAULT 0,
    ms100     INTEGER NOT NULL DEFAULT 0,
    ms300     INTEGER NOT NULL DEFAULT 0,
    s1        INTEGER NOT NULL DEFAULT 0,
    s3        INTEGER NOT NULL DEFAULT 0,
    s10       INTEGER NOT NULL DEFAULT 0,
    s30       INTEGER NOT NULL DEFAULT 0,
    s100      INTEGER NOT NULL DEFAULT 0,
    s300      INTEGER NOT NULL DEFAULT 0,
    s1000     INTEGER NOT NULL DEFAULT 0,
    s3000     INTEGER NOT NULL DEFAULT 0,
    s10000    INTEGER NOT NULL DEFAULT 0,
    longer    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, span, start, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_worker (
    id      TEXT    PRIMARY KEY,
    queue   INTEGER NOT NULL,
    host    TEXT    NOT NULL,
    pid     INTEGER NOT NULL,
    boot    TEXT    NOT NULL,
    born    INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    keeper  TEXT    NOT NULL,
    started INTEGER NOT NULL,
    until   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_event (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    INTEGER NOT NULL,
    told     INTEGER NOT NULL,
    body     TEXT    NOT NULL
);

CREATE TABLE IF NOT EXISTS huey_follower (
    id    TEXT    PRIMARY KEY,
    queue INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
