"""The keys of a queue, named once: Python takes them from here, and a script's ``$MESSAGES`` becomes ``P .. 'm'`` when it is built.

All begin with ``huey:{name}:``. The braces are the hash tag, so in a cluster all keys of a queue share one slot. The name is quoted (%XX
for everything but letters, digits, ``_``, ``-`` and ``.``), so two names never collide. Task ids and task names stand inside keys, never
in a key's own name. A key that ends with a colon is a family, in which a priority, a worker, a kind, ... follows.

When all tasks have run, their results are read and the workers are deregistered, these keys remain: LIST_ENDS (one field), CURSORS (one
field for each kind of value and one for locks at most), statistics (90 days), TICKS, the two of WAKE (one token each at most),
EVENT_POSITION, LOCK_TOKEN, TOP_TOKEN, SEQUENCES and SEQUENCE_ANSWERS (a day); user data and settings (VALUE_KINDS, VALUES); reservations
and rates (RESERVATIONS, RATES and their expiries, WINDOWS) until they are over; failed, cancelled and kept tasks with their state for their
retention.
"""

from __future__ import annotations

from urllib.parse import quote

QUEUES = "huey:queues"
"""A set outside all queues' keys: the names that share this server and database."""


class Key(str):
    """A key: the part of its name after the prefix, its type, and its contents."""

    type: str
    holds: str

    def __new__(cls, text: str, type: str, holds: str) -> Key:
        key = super().__new__(cls, text)
        key.type = type
        key.holds = holds
        return key


# -- tasks --------------------------------------------------------------------------------------------------------------------------------

MESSAGES = Key("m", "hash", "id -> message of every task that is held (messages.py)")
STATES = Key("d", "hash", "id -> state of tasks that were requeued, reclaimed or have ended (a msgpack array, parts/base.lua)")
READY = Key("q:0", "list", "ids of ready tasks of priority 0, oldest first")
READY_LISTS = Key("q:", "list", "the same for each other priority")
LIST_ENDS = Key("l", "hash", "priority -> ready_at and id of the task that was last appended to its list")
PRIORITIES = Key("p", "zset", "priorities other than 0 whose list is not empty, the highest first")
READY_RANKED = Key("z", "zset", "ready ids that cannot be appended to a list (an older ready_at), by rank: priority, ready_at, id")
SUSPECTS = Key("u", "zset", "ready ids of suspects, by rank")
SCHEDULED = Key("s", "zset", "scheduled ids by due time")
LEASES_OF = Key("h:", "hash", "worker: id -> token of the tasks it holds")
ENDED = Key("e:", "zset", "state: ids of ended tasks by end time")
ENDED_SUCCEEDED = Key("e:succeeded", "zset", "those that succeeded and are kept otherwise")
ENDED_KEPT = Key("e:kept", "zset", "those that succeeded and are kept for a time of their own, by its end")
ENDED_FAILED = Key("e:failed", "zset", "those that failed")
ENDED_CANCELLED = Key("e:cancelled", "zset", "those that were cancelled")
MISSING = Key("mt", "zset", "scheduled tasks that no worker could run: 40 digits of what is missing, rank; ordered by bytes")
MISSING_COUNTS = Key("mn", "hash", "what is missing (name, NUL, reason) -> number of tasks")
TOP_TOKEN = Key("tn", "string", "the highest token of any removed task: an id that is enqueued again begins above it")

# -- workflows ----------------------------------------------------------------------------------------------------------------------------

WAITING = Key("wa", "zset", "ids of tasks that wait for others, by how many of these have not ended")
EDGES_FROM = Key("ef", "hash", "id of a parent -> edges to its children that have not ended (a msgpack array, parts/edge_traces.lua)")
EDGES_ENDED = Key("ee", "hash", "id of a parent that has ended and is held -> edges to its children that have ended")
EDGES_TO = Key("et", "hash", "id of a child -> its parents (a msgpack array)")
EDGES_GIVEN = Key("eg", "hash", "id of a child, NUL, position -> what that parent gave (a msgpack array)")
ENDED_PARENTS = Key("ep", "hash", "id of a parent with edges that are to end in a later step -> what it gives (a msgpack array)")

# -- workers, and who is woken ------------------------------------------------------------------------------------------------------------

WORKERS = Key("w", "hash", "worker -> its description (JSON)")
WORKER_LEASES = Key("wl", "zset", "workers by the end of their lease")
WAKE = Key("wake:", "list", "lane (o: other tasks, u: suspects): wakes one worker; holds one token at most")
WAKE_OTHERS = Key("wake:o", "list", "the one of other tasks")
WAKE_SUSPECTS = Key("wake:u", "list", "the one of suspects")
CALLED_OFF = Key("no:", "string", "client: calls off the claim that is queued behind the blocking pop of that client; for 5 s")
WAITERS = Key("wt", "hash", "id -> clients that wait for its result")
WAITER_EXPIRIES = Key("wx", "zset", "those ids by the time until which their waiters count")
ARRIVED = Key("wk:", "list", "client: ids whose results have arrived since it began to wait for them; for a minute")

# -- enqueues -----------------------------------------------------------------------------------------------------------------------------

SEQUENCES = Key("pr", "zset", "enqueue sequences by their last number, a time of their clocks (pipeline.py); for a day")
SEQUENCE_ANSWERS = Key("pa", "hash", "sequence -> number and duplicates of its last enqueue, where that had some")
PENDING = Key("n", "hash", "minute:name -> tasks that were enqueued then and have not ended")

# -- revocations --------------------------------------------------------------------------------------------------------------------------

REVOKED = Key("rv", "hash", "id of a held task -> revocation")
REVOKED_UNHELD = Key("ru", "hash", "any other id, or NUL, instant, colon and id for one enqueue of it -> revocation")
REVOKED_UNHELD_EXPIRIES = Key("ux", "zset", "those fields by the time until which they are kept")
REVOKED_NAMES = Key("rn", "hash", "task name -> revocation")

# -- constraints --------------------------------------------------------------------------------------------------------------------------

CONSTRAINTS = Key("t", "hash", "id -> constraints of a held task (a msgpack array, parts/constraints.lua)")
UNIQUE_KEYS = Key("uk", "hash", "unique key -> id of the task that holds it")
RESERVATIONS = Key("kp", "hash", "reserved for a time: i and an id, or u and a unique key -> until when, and for which id")
RESERVATION_EXPIRIES = Key("kx", "zset", "those fields by that time")
LIMIT_BLOCKED = Key("lw", "zset", "tasks that a concurrency limit or a rate blocks: 40 digits of the limit, rank; ordered by bytes")
LIMIT_READY = Key("lo", "zset", "ready tasks with such a limit: the same")
LIMIT_RUNNING = Key("lr", "zset", "running tasks with such a limit: 40 digits of the limit, the letter r, id")
WINDOWS = Key("rw", "hash", "concurrency key -> start and end of the last window of its rate, and the tasks claimed in it")
AWAITED = Key("ra", "zset", "those keys of which tasks are blocked, by the end of the window")

# -- values, locks, rates -----------------------------------------------------------------------------------------------------------------

VALUES = Key("v:", "hash", "kind: key -> 16 digits of when it expires (0: never) and the value")
VALUE_EXPIRIES = Key("x:", "zset", "kind: times at which some values expire; all results of a turn have one time")
VALUE_EXPIRY_COUNTS = Key("xn:", "hash", "kind: such a time -> number of values")
RESULTS = Key("v:result", "hash", "the values that are results of tasks")
RESULT_EXPIRIES = Key("x:result", "zset", "the same")
RESULT_EXPIRY_COUNTS = Key("xn:result", "hash", "the same")
SETTINGS = Key("v:setting", "hash", "the values that are the consumer's own")
VALUE_KINDS = Key("k", "set", "kinds in use other than result")
LOCKS = Key("lk", "hash", "lock -> its holder (a msgpack array, parts/locks.lua)")
PROCESS_LOCKS = Key("lp", "zset", "locks that processes hold: 40 digits of the holder, name; ordered by bytes")
LOCK_TOKEN = Key("ln", "string", "the last token of a lock")
RATES = Key("rt", "hash", "rate -> start of its last window, and hits in it")
RATE_EXPIRIES = Key("rx", "zset", "rates by the end of that window")

# -- house --------------------------------------------------------------------------------------------------------------------------------

CONTROL = Key("c", "hash", "paused: 1; followed: until when a follower counts")
TICKS = Key("tk", "hash", "periodic task -> its last tick, and when that was noted")
EVENTS = Key("ev", "stream", "published events by position, for 10 minutes")
EVENT_POSITION = Key("en", "string", "the last position")
MINUTES = Key("st60", "zset", "minutes with statistics; st60:START is a hash: name -> 23 numbers (doubles)")
HOURS = Key("st3600", "zset", "the same by hour")
CURSORS = Key("sc", "hash", "hash -> how far the present scan for expired fields of it has come")
DAMAGED_KEYS = Key("dk", "set", "keys that were set aside because of a wrong type and whose tasks are not restored yet")
REPAIRED_KEYS = Key("dm", "set", "those whose tasks are restored")
DAMAGED = Key("damaged:", "any", "key: what was found there")
ABSENT = Key(
    "none", "string", "never set: a script that has deleted it counts as one that writes, so it may go on while the server is full"
)

NAMES = {name: key for name, key in globals().items() if isinstance(key, Key)}
TYPES = {key: key.type for key in NAMES.values() if not key.endswith(":")}
"""A key of any other type was not made by huey."""


def prefix(name: str) -> str:
    """Return the prefix of the keys of a queue. In its name all but letters, digits and ``_-.`` are quoted, so two names never collide."""
    quoted = quote(name, safe="").replace("~", "%7E")
    return f"huey:{{{quoted}}}:"
