"""The keys of a queue.

All begin with ``huey:{name}:``. What stands in braces is the hash tag, so in a cluster they share one slot. The name is quoted (%XX for
what is not a letter, a digit, ``_``, ``-`` or ``.``), so two names never meet. Ids and names of tasks stand inside, never in a key.

=================  ======  =====================================================================================================
m                  hash    id -> message of every task that is held (messages.py)
d                  hash    id -> state of those that were put back, reclaimed or have ended (a msgpack array, base.lua)
q:PRIORITY         list    ids that are ready, oldest first
l                  hash    priority -> place and id at that list's end
p                  zset    priorities other than 0 whose list has something, the highest first
z                  zset    ready ids that cannot stand at a list's end (an older place), by priority, place and id
u                  zset    ready ids of suspects, by the same order
s                  zset    scheduled ids by due time
h:WORKER           hash    id -> token of what a worker holds
w, wl              hash,   worker -> who it is (JSON), worker -> end of its lease
                   zset
e:STATE            zset    ids that have ended by when
rv, ru, ux         hash,   marks of tasks that are held, of ids that are not (of one enqueue: NUL, its instant, a colon, id), and until when
                   hash,   the latter are kept
                   zset
rn                 hash    marks of names
v:KIND             hash    small values (kind ``result``: of tasks), each behind 16 digits that say when it goes (0: never)
x:KIND, xn:KIND    zset,   the times at which some go; time -> how many. All results of a turn have one time
                   hash
mt, mn             zset,   scheduled ids of tasks that wait for a worker that can run them: 40 digits of what is missing, rank, id; by
                   hash    bytes. Name, NUL and reason of what is missing -> how many
t                  hash    id -> what a task that is held wishes of others (a msgpack array, terms.lua)
uk                 hash    unique key -> id of the task that holds it
kp, kx             hash,   what the clock holds ("i" and an id that stays known, "u" and a unique key) -> until when, and
                   zset    which id; the same by time
lw, lo, lr         zset    tasks with a limit that wait, are ready, run: 40 digits of the limit, rank (or ``r``), id; by bytes
lk                 hash    lock -> who holds it (a msgpack array, locks.lua)
lp                 zset    locks of processes: 40 digits of the holder, name; by bytes
ln                 string  the last token of a lock
rt, rx             hash,   rate -> start of its last window and uses in it; rates by the end of that window
                   zset
k                  set     kinds other than ``result``
wt, wx             hash,   id -> who waits for its result, and until when that is believed
                   zset
wk:WAITER          list    ids whose results have come, for a process that waits for some; goes after a minute
no:CLIENT          string  calls off the claim that stands behind a client's blocking pop; goes after 5 s
wake:o, wake:u     list    wakes one worker; at most one token. o: of all tasks, u: of suspects
tn                 string  the highest token of a task that has gone; ids that come again begin above it
pr                 zset    producers by the number of their last enqueue, a time of their clocks (producers.py); for a day
n                  hash    ``minute:name`` -> tasks that came then and have not ended
st60, st60:START   zset,   statistics: the minutes there are; name -> 23 numbers (doubles)
                   hash
st3600, ...                the same by hour
tk                 hash    periodic task -> last tick and when it was noted
c                  hash    ``paused``; ``followed`` until
sc                 hash    how far looks for what is past its time have come, while one is under way
dk, dm, damaged:*  set,    names of keys that were set aside, since their types were wrong: not seen to yet, and seen to; those keys
                   set, -
ev, en             stream, told events by position, kept 10 minutes; the last position
                   string
=================  ======  =====================================================================================================

When all work is done, its results are read and its workers have said goodbye, these stay: ``l`` (one field), ``sc`` (at most one field
for each kind and one for locks), ``st...`` (for 90 days), ``tk`` (periodic tasks), ``wake:o`` and ``wake:u`` (at most one token), ``en``,
``ln``, ``tn``, ``pr`` and ``pa`` (a day); those of user data and settings (``k``, ``v:...``); what the clock holds (``kp``, ``kx``,
``rt``, ``rx``) until it is over; failed, cancelled and kept tasks with their state for their retention. Outside the queue's keys stands
``huey:queues``, the set of names in use.
"""

from __future__ import annotations

QUEUES = "huey:queues"
"""The names that share this server and database."""
TYPES = {
    "m": "hash",
    "d": "hash",
    "q:0": "list",
    "l": "hash",
    "p": "zset",
    "z": "zset",
    "u": "zset",
    "s": "zset",
    "w": "hash",
    "wl": "zset",
    "rv": "hash",
    "ru": "hash",
    "rn": "hash",
    "mt": "zset",
    "mn": "hash",
    "t": "hash",
    "uk": "hash",
    "kp": "hash",
    "kx": "zset",
    "lw": "zset",
    "lo": "zset",
    "lr": "zset",
    "lk": "hash",
    "lp": "zset",
    "rt": "hash",
    "rx": "zset",
    "n": "hash",
    "tn": "string",
    "pr": "zset",
    "pa": "hash",
    "c": "hash",
    "sc": "hash",
    "tk": "hash",
    "v:result": "hash",
    "x:result": "zset",
    "xn:result": "hash",
    "wake:o": "list",
    "wake:u": "list",
    "ev": "stream",
    "st60": "zset",
    "st3600": "zset",
}
"""What is found under a queue's prefix must have these types, or somebody else's data stands there."""


def prefix(name: str) -> str:
    """What the keys of a queue begin with."""
    return f"huey:{{{quoted(name)}}}:"


def quoted(name: str) -> str:
    """*name* with only letters, digits and ``_-.``; two names never become one."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-.") else _escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())
