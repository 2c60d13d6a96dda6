-- name: schema
-- (SQLite) All tables of a queue's file. Their names begin with huey_, so that an application may keep its own tables in the same file.
-- Times are microseconds UTC, except for leases (`until` of workers and locks): microseconds of the machine's monotonic clock, which are
-- comparable within one boot only (`host_scope`).

CREATE TABLE IF NOT EXISTS huey_meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_queue (
    id        INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL UNIQUE,
    is_paused INTEGER NOT NULL DEFAULT 0,
    -- The highest token of any task that was removed. A task whose id is enqueued again starts above it. 1 covers tasks that ran once.
    top_token INTEGER NOT NULL DEFAULT 1
);

-- One row per task; a task that succeeds is deleted unless succeeded tasks are kept.
-- due: when a scheduled task becomes ready, NULL once it is ready; until when a succeeded one is kept, if it has a time of its own. ready_at: when it became ready, its place in the order of claims.
-- solo_crashes: 0 = not a suspect; else 1 plus the number of worker crashes while it ran alone. deaths: all crashes of workers that held
-- it. unknown_until: set while no worker can run it, because none has its function or a class of its arguments: when it fails for that.
-- attempts: JSON list of the last five failed runs. crashed_worker: JSON of the worker that died while it held the task, until the outcome
-- of that run is decided.
-- unique_key: the key it holds. wanted_key: the key it takes again when it goes back to the queue.
-- concurrency_key: at most `max_running` tasks of a key are ready or running, and no more are claimed in a window than the rate in their
-- options allows; the others are 'blocked'. spent: the start of the window in which the last claim spent a use of the rate.
-- open_parents: how many of the tasks that it waits for have not ended; it is 'waiting' until there are none.
CREATE TABLE IF NOT EXISTS huey_task (
    queue           INTEGER NOT NULL,
    id              TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    priority        INTEGER NOT NULL,
    ready_at        INTEGER NOT NULL,
    due             INTEGER,
    expires         INTEGER,
    retries         INTEGER NOT NULL,
    retry_delay     REAL    NOT NULL,
    attempt         INTEGER NOT NULL DEFAULT 0,
    solo_crashes    INTEGER NOT NULL DEFAULT 0,
    deaths          INTEGER NOT NULL DEFAULT 0,
    token           INTEGER NOT NULL DEFAULT 0,
    worker          TEXT,
    created         INTEGER NOT NULL,
    finished        INTEGER,
    unknown_until   INTEGER,
    revoked_until   INTEGER,
    revoked_once    INTEGER,
    unique_key      TEXT,
    reason          TEXT,
    options         TEXT,
    payload         BLOB    NOT NULL,
    error           TEXT,
    attempts        TEXT,
    crashed_worker  TEXT,
    wanted_key      TEXT,
    concurrency_key TEXT,
    max_running     INTEGER,
    open_parents    INTEGER,
    spent           INTEGER,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

-- Partial indexes put the condition that is cheapest and most often false first: SQLite evaluates all of them for each changed row.
-- Suspects (tasks that were running when their worker crashed) have a lane of their own.
CREATE INDEX IF NOT EXISTS huey_ready ON huey_task (queue, priority DESC, ready_at, id)
    WHERE due IS NULL AND solo_crashes = 0 AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_suspect ON huey_task (queue, priority DESC, ready_at, id)
    WHERE solo_crashes > 0 AND due IS NULL AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_scheduled ON huey_task (queue, due) WHERE due IS NOT NULL AND state = 'queued';
-- Tasks that no worker could run: scheduled for the time at which they fail. `reason` says what is missing.
CREATE INDEX IF NOT EXISTS huey_missing ON huey_task (queue, name, reason)
    WHERE unknown_until IS NOT NULL AND due IS NOT NULL AND state = 'queued';
CREATE INDEX IF NOT EXISTS huey_held ON huey_task (worker) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS huey_stopping ON huey_task (worker) WHERE revoked_until IS NOT NULL AND state = 'running';
CREATE INDEX IF NOT EXISTS huey_ended ON huey_task (queue, state, finished) WHERE finished IS NOT NULL;
CREATE INDEX IF NOT EXISTS huey_kept ON huey_task (queue, due, id) WHERE due IS NOT NULL AND state = 'succeeded';
CREATE UNIQUE INDEX IF NOT EXISTS huey_unique ON huey_task (queue, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS huey_wanted ON huey_task (queue) WHERE wanted_key IS NOT NULL AND finished IS NULL;
CREATE INDEX IF NOT EXISTS huey_concurrency ON huey_task (queue, concurrency_key, state, due, priority DESC, ready_at, id)
    WHERE concurrency_key IS NOT NULL AND finished IS NULL;
-- Heavy tasks: more than 16 KiB each. 512 light ones, the most that a worker claims at once, are then at most 8 MiB.
CREATE INDEX IF NOT EXISTS huey_heavy ON huey_task (queue) WHERE length(payload) > $HEAVY AND state = 'queued';

-- What tasks wait for. `kind`: 'then' or 'join'. `outcome`: how the parent ended ('succeeded', 'failed', 'skipped'), NULL while it has not.
-- value: what it gave. failed: the task whose failure it is, the parent or an ancestor of it; its error, where the parent itself failed. The rows
-- of a child go with it.
CREATE TABLE IF NOT EXISTS huey_edge (
    child_queue  INTEGER NOT NULL,
    child        TEXT    NOT NULL,
    position     INTEGER NOT NULL,
    parent_queue INTEGER NOT NULL,
    parent       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    outcome      TEXT,
    failed_queue INTEGER,
    failed       TEXT,
    error        TEXT,
    value        BLOB,
    PRIMARY KEY (child_queue, child, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS huey_edge_parent ON huey_edge (parent_queue, parent);

-- Tasks that have ended while edges from them are still open, since one step ends 1000 edges at most: later steps go on with them.
CREATE TABLE IF NOT EXISTS huey_ended_parent (
    queue        INTEGER NOT NULL,
    id           TEXT    NOT NULL,
    outcome      TEXT    NOT NULL,
    failed_queue INTEGER,
    failed       TEXT,
    error        TEXT,
    value        BLOB,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_result (
    queue   INTEGER NOT NULL,
    id      TEXT    NOT NULL,
    expires INTEGER,
    value   BLOB    NOT NULL,
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_value (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    expires INTEGER,
    value   BLOB    NOT NULL,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Revocations of what has no row in huey_task: an id that is not held (kind i), one enqueue of such an id (kind e; the key is its time, a
-- colon, and the id), all tasks of a name (kind n).
CREATE TABLE IF NOT EXISTS huey_revocation (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    once    INTEGER NOT NULL,
    expires INTEGER,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Keys that are reserved for a time rather than by a row of huey_task: ids (kind id) and unique keys (kind unique). id: the task that holds it.
CREATE TABLE IF NOT EXISTS huey_reservation (
    queue   INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (queue, kind, key)
) WITHOUT ROWID;

-- Locks. The holder is a run of a task (`run` is its token; the lock ends with the lease) or a process (`run` is 0; the lock ends at `until`
-- unless it is renewed). `ends`: when it ends in any case, NULL if there is no such time. Tokens only grow.
CREATE TABLE IF NOT EXISTS huey_lock (
    token      INTEGER PRIMARY KEY AUTOINCREMENT,
    queue      INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    run        INTEGER NOT NULL,
    host_scope TEXT    NOT NULL,
    until      INTEGER NOT NULL,
    ends       INTEGER,
    UNIQUE (queue, name)
);

-- Locks with the time at which they end: that of the holder's lease, or `ends` if that is earlier. The lease of a run is that of its worker;
-- a run that is over has none.
CREATE VIEW IF NOT EXISTS huey_held_lock AS
SELECT l.token, l.queue, l.name, l.holder, l.run,
       CASE l.run WHEN 0 THEN l.host_scope ELSE w.host_scope END AS host_scope,
       CASE WHEN l.ends < (CASE l.run WHEN 0 THEN l.until ELSE w.until END) THEN l.ends
            ELSE (CASE l.run WHEN 0 THEN l.until ELSE w.until END) END AS until
  FROM huey_lock AS l
  LEFT JOIN huey_task AS t ON l.run > 0 AND t.queue = l.queue AND t.id = l.holder AND t.token = l.run AND t.state = 'running'
  LEFT JOIN huey_worker AS w ON w.id = t.worker;

-- Rate limits: uses in the last window of each name.
CREATE TABLE IF NOT EXISTS huey_rate (
    queue INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    start INTEGER NOT NULL,
    ends  INTEGER NOT NULL,
    used  INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

-- Rates of tasks: how many of a concurrency key were claimed in its last window. is_awaited: whether tasks are blocked until it ends.
CREATE TABLE IF NOT EXISTS huey_window (
    queue      INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    start      INTEGER NOT NULL,
    ends       INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    is_awaited INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS huey_awaited ON huey_window (queue, ends) WHERE is_awaited = 1;

CREATE TABLE IF NOT EXISTS huey_periodic (
    queue INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    tick  INTEGER NOT NULL,
    seen  INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

-- Statistics: one row per task name and minute (span 60), rolled up into hours later (span 3600). duration, longest: microseconds. The last
-- columns are a histogram: runs of up to 1 ms, up to 3 ms, ... up to 10,000 s, and longer.
CREATE TABLE IF NOT EXISTS huey_stats (
    queue     INTEGER NOT NULL,
    span      INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    enqueued  INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    retried   INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    duration  INTEGER NOT NULL DEFAULT 0,
    longest   INTEGER NOT NULL DEFAULT 0,
    ms1 INTEGER NOT NULL DEFAULT 0, ms3 INTEGER NOT NULL DEFAULT 0, ms10 INTEGER NOT NULL DEFAULT 0, ms30 INTEGER NOT NULL DEFAULT 0,
    ms100 INTEGER NOT NULL DEFAULT 0, ms300 INTEGER NOT NULL DEFAULT 0, s1 INTEGER NOT NULL DEFAULT 0, s3 INTEGER NOT NULL DEFAULT 0,
    s10 INTEGER NOT NULL DEFAULT 0, s30 INTEGER NOT NULL DEFAULT 0, s100 INTEGER NOT NULL DEFAULT 0, s300 INTEGER NOT NULL DEFAULT 0,
    s1000 INTEGER NOT NULL DEFAULT 0, s3000 INTEGER NOT NULL DEFAULT 0, s10000 INTEGER NOT NULL DEFAULT 0, longer INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, span, start, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_worker (
    id         TEXT    PRIMARY KEY,
    queue      INTEGER NOT NULL,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    host_scope TEXT    NOT NULL,
    start_time INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    supervisor TEXT    NOT NULL,
    started    INTEGER NOT NULL,
    until      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS huey_event (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    queue        INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    body         TEXT    NOT NULL
);

CREATE TABLE IF NOT EXISTS huey_follower (
    id    TEXT    PRIMARY KEY,
    queue INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
