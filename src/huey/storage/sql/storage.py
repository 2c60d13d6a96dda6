"""The methods that are the same in every SQL storage: one named statement each, in the .sql files of the dialect.

Methods that depend on the dialect (enqueue, turn, tick, reclaim, listen) are in its own package.
"""

from __future__ import annotations

import json
import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from huey.runtime.clock import SECOND, Clock, Micros, micros
from huey.storage import base
from huey.storage.base import DEAD_LETTERS_KEPT, EVENTS_KEPT, FOREVER, REVOCATION_KEPT, TURN_BYTES, Storage
from huey.storage.helpers import Retention, parse_result_ttl, parts_of
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.rows import Counts, Features, Missing, Revocation, TaskIds, TaskName, TaskRow, Worker, WorkerRow
from huey.storage.stats import HOURS_KEPT, MINUTES_KEPT, Stat, stat, with_waiting
from huey.storage.unreadable import leases_from, row_from, worker_from
from huey.task.bounds import is_storable
from huey.task.progress import PROGRESS
from huey.task.record import Lease
from huey.task.workflow import ORPHANS

log = logging.getLogger("huey")
Values = Sequence[Any] | dict[str, Any]

_FINDS = {
    "suspect": ("find_suspects",),
    "ready": ("find_suspects", "find_ready"),
    "queued": ("find_suspects", "find_ready", "find_scheduled"),
    "scheduled": ("find_scheduled",),
    "running": ("find_running",),
    "succeeded": ("find_ended",),
    "kept": ("find_kept",),
    "failed": ("find_ended",),
    "cancelled": ("find_ended",),
}
"""Statements that list the tasks of a state; several list them in the order of claims."""

_PRUNES = (
    *("prune_values", "prune_revocations", "prune_events", "prune_followers", "prune_ticks", "prune_hours"),
    *("prune_reservations", "prune_locks", "prune_rates", "prune_windows"),
)

_MENDS = ("mend_workers", "mend_running")
"""Statements that repair rows that nothing else would find."""
MENDED = 10_000
"""How many task states one `prune` checks."""


class SqlStorage(Storage):
    """A storage whose methods run named SQL statements. A dialect implements `_read`, `_write`, `_queue` and the other abstract methods."""

    features = Features(supports_constraints=True, supports_workflows=True)

    def __init__(self, name: str, clock: Clock, result_ttl: float | None, retention: Retention) -> None:
        self.name = name
        self._clock = clock
        self.result_ttl = parse_result_ttl(result_ttl)
        self._retention = retention
        self._mended_up_to = ""
        """The id up to which states were checked; empty to start with the first one."""

    @abstractmethod
    def _read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Run a reading statement and return its rows."""

    @abstractmethod
    def _write(self, statement: str, values: Values = (), *, is_durable: bool = True) -> int:
        """Commit a writing statement and return the number of rows it changed. *is_durable* False: a power failure may undo it."""

    @abstractmethod
    def _rouse(self) -> None:
        """Wake threads that listen, wait or follow, in all processes."""

    @abstractmethod
    def _lease_time(self) -> Micros:
        """Return the time on the clock of leases."""

    @property
    @abstractmethod
    def _queue(self) -> int:
        """The number of this storage's queue. Opens the storage if it is not open."""

    # -- life ---------------------------------------------------------------------------------------------------------------------------

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        pairs = json.dumps([[lease.id, lease.token] for lease in leases])
        self._write("release", {"queue": self._queue, "worker": worker.id, "leases": pairs}, is_durable=False)
        self._rouse()

    def missing(self) -> list[Missing]:
        return [Missing(name, reason or "") for name, reason in self._read("missing", (self._queue,))]

    def claim_missing(self, worker: Worker, missing: Sequence[Missing], want: int, now: Micros | None = None) -> list[Lease]:
        self.heartbeat([worker])
        which = {"queue": self._queue, "worker": worker.id, "now": self._now(now), "want": want, "missing": json.dumps(list(missing))}
        ids, size = list[str](), 0
        for id, weight in self._read("missing_find", which):
            if size <= TURN_BYTES:
                ids.append(id)
                size += weight
        if not ids:
            return []
        which["ids"] = json.dumps(ids)
        self._write("missing_claim", which)
        if self._write("missing_open", which):
            self._rouse()
        return leases_from(self._read("missing_leases", which))

    def deregister(self, worker: Worker) -> None:
        self._write("deregister", {"worker": worker.id}, is_durable=False)

    def ticks(self) -> dict[str, Micros]:
        return dict(self._read("ticks", (self._queue,)))

    # -- will ---------------------------------------------------------------------------------------------------------------------------

    def revoke(self, target: TaskIds | TaskName, until: Micros | None = None, once: bool = False) -> None:
        until = FOREVER if until is None else until
        if isinstance(target, TaskName):
            self._write("revoke_name", (self._queue, target.name, until, once))
            return
        which = {"queue": self._queue, "until": until, "once": once, "ids": json.dumps(list(target.ids)), "enqueue": target.enqueue}
        # In this order: a task that is enqueued in between is revoked by what the first left, or else by the second.
        self._write("revoke_unheld", which | {"expires": self._clock.now() + REVOCATION_KEPT})
        self._write("revoke", which)
        self._rouse()

    def restore(self, target: TaskIds | TaskName) -> list[str]:
        if isinstance(target, TaskName):
            return [target.name] if self._write("restore_name", (self._queue, target.name)) else []
        ids, enqueue = target
        which = {"queue": self._queue, "ids": json.dumps(list(ids)), "now": self._clock.now(), "enqueue": enqueue}
        revoked = {row[0] for row in self._read("restore_find", which)}
        if revoked:
            self._write("restore", which)
            self._write("restore_unheld", which)
        return [id for id in ids if id in revoked]

    def get_revocation(self, *targets: TaskIds | TaskName) -> Revocation | None:
        id, name, enqueue = parts_of(targets)
        which = {"queue": self._queue, "id": id, "name": name, "now": self._clock.now(), "enqueue": enqueue}
        for until, once in self._read("revocation", which):
            return Revocation(until, bool(once))
        return None

    def retry(self, ids: Sequence[str], now: Micros | None = None) -> list[str]:
        which = {"queue": self._queue, "ids": json.dumps(list(ids)), "now": self._now(now)}
        ended = {row[0] for row in self._read("retry_find", which)}
        if ended:
            self._requeue(which)
            self._rouse()
        return [id for id in ids if id in ended]

    @abstractmethod
    def _requeue(self, which: dict[str, Any]) -> None:
        """Enqueue ended tasks again, as new. *which* has `queue`, `now` and `ids`."""

    def discard(self, ids: Sequence[str]) -> list[str]:
        which = {"queue": self._queue, "ids": json.dumps(list(ids))}
        ended = {row[0] for row in self._read("discard_find", which)}
        if ended:
            which["ids"] = json.dumps([id for id in ids if id in ended])
            self._note_tokens(which["ids"])
            self._write("discard_results", which)
            self._write("discard_reservations", which)
            self._write("drop_edges", which)
            self._write("discard", which)
        return [id for id in ids if id in ended]

    def _note_tokens(self, ids: object) -> None:
        """Record the tokens of tasks that are about to be deleted, so that these ids start above them if they are enqueued again.

        *ids*: a JSON list, or None for all tasks.
        """
        for (token,) in self._read("top_token_of", {"queue": self._queue, "ids": ids}):
            self._write("top_token", {"queue": self._queue, "token": token})

    def _flush_tasks(self) -> None:
        """Delete all tasks, even if workers still hold leases. A task that is claimed between two steps is deleted by the next one."""
        for _ in range(3):
            self._note_tokens(None)
            self._write("flush_tasks", {"queue": self._queue})

    def keep(self, ids: Sequence[str], until: Micros) -> None:
        which = {"queue": self._queue, "ids": json.dumps(list(ids)), "until": until}
        self._write("keep_results", which)
        self._write("keep", which)

    def pause(self, on: bool) -> None:
        self._write("pause", (on, self._queue))
        self._rouse()

    # -- looking ------------------------------------------------------------------------------------------------------------------------

    def find(self, state: str | None = None, name: str | None = None, limit: int = 100, ids: Sequence[str] | None = None) -> list[TaskRow]:
        if ids is not None:
            return [row_from(row) for id in ids for row in self._read("get", (self._queue, id))]
        which = {"queue": self._queue, "state": state, "name": name, "limit": limit}
        rows: list[tuple[Any, ...]] = []
        for statement in _FINDS.get(state or "", ("find",)):
            if len(rows) < limit:
                rows += self._read(statement, which | {"limit": limit - len(rows)})
        return [row_from(row) for row in rows]

    def counts(self) -> Counts:
        row = self._read("counts", {"queue": self._queue, "now": self._clock.now()})[0]
        *numbers, is_paused, waiting = row
        return Counts._make([*(number or 0 for number in numbers), bool(is_paused), waiting or 0])

    def queues(self) -> list[str]:
        # Read first, so that this worker is among them.
        assert self._queue
        return [name for (name,) in self._read("queues")]

    def stats(self, since: Micros) -> list[Stat]:
        which = {"queue": self._queue, "since": since}
        return with_waiting([stat(*row) for row in self._read("stats", which)], self._read("stats_pending", which))

    def workers(self) -> list[WorkerRow]:
        now = self._lease_time()
        return [
            WorkerRow(worker := worker_from(who), until, (gone := self._is_gone(worker.host_scope)) or until <= now, holds, gone)
            for *who, until, holds in self._read("workers", (self._queue,))
        ]

    def leases(self, worker: Worker) -> list[Lease]:
        return leases_from(self._read("leases", {"worker": worker.id, "queue": self._queue}))

    def _is_gone(self, boot: str) -> bool:
        """Return whether a worker with that host scope can no longer be alive."""
        return False

    # -- values ------------------------------------------------------------------------------------------------------------------------

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        # Results have a table of their own.
        statement = ("result" if kind == "result" else "value") + ("_put_if_empty" if if_absent else "_put")
        is_stored = self._write(statement, self._row(kind, key, value, ttl), is_durable=kind != PROGRESS) > 0
        if is_stored and kind != PROGRESS:
            self._rouse()
        return is_stored

    def _row(self, kind: str, key: str, value: bytes | None = None, ttl: float | None = None) -> dict[str, Any]:
        now = self._clock.now()
        ttl = self.result_ttl if ttl is None and kind == "result" else ttl
        expires = None if ttl is None else now + micros(ttl)
        return {"queue": self._queue, "kind": kind, "key": key, "value": value, "expires": expires, "now": now}

    # -- locks and rates ----------------------------------------------------------------------------------------------------------------

    def acquire_lock(self, name: str, holder: Holder, ttl: float | None = None) -> int | None:
        alive = self._alive()
        who = {"queue": self._queue, "name": name, "holder": holder.id, "run": holder.token, "until": alive["clock"] + HOLDER}
        who["ends"] = None if ttl is None else alive["clock"] + micros(ttl)
        if not self._write("lock_acquire", who | alive, is_durable=False):
            return None
        # This caller holds it, so no other caller changes it meanwhile; but it may have been flushed.
        held = next(iter(self.locks([name])), None)
        return held.token if held is not None and held.holder == holder else None

    def renew_locks(self, holder: Holder) -> int:
        alive = self._alive()
        who = {"queue": self._queue, "holder": holder.id, "until": alive["clock"] + HOLDER}
        return self._write("lock_renew", who | alive, is_durable=False)

    def release_lock(self, name: str, token: int) -> bool:
        which = {"queue": self._queue, "name": name, "token": token}
        return self._write("lock_release", which | self._alive(), is_durable=False) > 0

    def locks(self, names: Sequence[str] | None = None) -> list[Held]:
        which = {"queue": self._queue} | self._alive()
        if names is None:
            rows = self._read("locks_held", which)
        else:
            rows = [(name, *row) for name in names for row in self._read("lock_find", which | {"name": name})]
        return [Held(name, token, Holder(holder, run)) for name, token, holder, run in rows]

    def hit_rate_limit(self, name: str, limit: int, per: float, now: Micros | None = None) -> float:
        window = self._window(name, per, now) | {"limit": limit}
        if self._write("rate_hit", window, is_durable=False):
            return 0.0
        # It stays full, even if other callers count in between.
        self._write("rate_reject", window, is_durable=False)
        return float(window["ends"] - window["now"]) / SECOND

    def rate(self, name: str, per: float, now: Micros | None = None, reset: bool = False) -> int:
        used = int(sum(used for (used,) in self._read("rate_usage", self._window(name, per, now))))
        if reset:
            self._write("rate_reset", {"queue": self._queue, "name": name})
        return used

    def _window(self, name: str, per: float, now: Micros | None) -> dict[str, Any]:
        now, length = self._now(now), micros(per)
        start = now - now % length
        return {"queue": self._queue, "name": name, "start": start, "ends": start + length, "now": now}

    # -- house --------------------------------------------------------------------------------------------------------------------------

    def prune(self, now: Micros | None = None) -> int:
        now = self._now(now)
        when = {"queue": self._queue, "now": now, "ended": now - DEAD_LETTERS_KEPT, "events": now - EVENTS_KEPT}
        when |= {"minutes": now - MINUTES_KEPT, "hours": now - HOURS_KEPT}
        when |= self._alive()
        when |= {"succeeded": now - self._retention.age, "most": self._retention.most}
        gone = self._prune_minutes(when)
        for statement in ("prune_results", "prune_succeeded", "prune_ended"):
            late = [row[0] for row in self._read(statement + "_find", when)]
            if late:
                if statement != "prune_results":
                    self._note_tokens(json.dumps(late))
                    self._write("drop_edges", when | {"ids": json.dumps(late)})
                gone += self._write(statement, when | {"ids": json.dumps(late)})
        for statement in (*_PRUNES, *_MENDS):
            gone += self._write(statement, when)
        return gone + self._mend_states(when)

    def _mend_states(self, when: dict[str, Any]) -> int:
        """Fail tasks with unknown states among the next `MENDED` ones, and return how many there were."""
        span = {"queue": self._queue, "after": self._mended_up_to, "most": MENDED}
        ((last, is_end, waiting, odd),) = self._read("mend_states_find", span)
        # An id that is not a string cannot be the position to continue from.
        self._mended_up_to = last if not is_end and isinstance(last, str) and is_storable(last) else ""
        span |= {**when, "last": last}
        mended = self._write("mend_states", span) if odd else 0
        if mended:
            self._write("mend_parents", span)
        return mended + (self._cancel_orphans(span) if waiting else 0)

    def _cancel_orphans(self, span: dict[str, Any]) -> int:
        """Cancel tasks that wait for none that can still end, and return how many there were."""
        orphans = [id for (id,) in self._read("orphans", span)]
        if orphans:
            log.warning(ORPHANS, ", ".join(orphans))
            which = span | {"ids": json.dumps(orphans)}
            self._write("orphan_cancel", which)
            self._write("orphan_parents", which)
        return len(orphans)

    @abstractmethod
    def _alive(self) -> dict[str, Any]:
        """Return what leases are compared with: `clock`, the time on the clock of leases, and `host_scope`, where that clock is valid."""

    @abstractmethod
    def _prune_minutes(self, when: dict[str, Any]) -> int:
        """Roll minute rows up into hours, and return how many were rolled up."""

    def _now(self, now: Micros | None) -> Micros:
        return self._clock.now() if now is None else now


_NAME_LINE = "-- name:"
_INCLUDED = re.compile(r"\$([a-z]\w*)")
_FIGURE = re.compile(r"\$([A-Z_]+)")


@cache
def load_statements(dialect: str) -> dict[str, str]:
    """Return all statements of one dialect (a package beside this one) by name. Raise ValueError if two have the same name.

    Each begins with a line ``-- name: claim`` and a sentence that says what it is for. `$name` is replaced by the statement of that name,
    and `$NAME` by a figure that the contract promises.
    """
    found: dict[str, str] = {}
    for file in sorted((Path(__file__).parents[1] / dialect / "sql").glob("*.sql")):
        for block in file.read_text("utf-8").split(_NAME_LINE)[1:]:
            name, _, text = block.partition("\n")
            if name.strip() in found:
                raise ValueError(f"{file.name}: two statements are called {name.strip()!r}")
            found[name.strip()] = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()
    with_figures = {name: _FIGURE.sub(lambda match: str(getattr(base, match[1])), text) for name, text in found.items()}
    return {name: _INCLUDED.sub(lambda match: with_figures[match[1]], text) for name, text in with_figures.items()}
