"""Locks by name, and rate limits. Locks use the monotonic clock, as leases do."""

from __future__ import annotations

from collections.abc import Sequence

from huey.runtime.clock import SECOND, Micros
from huey.storage.locks import HOLDER, Held, Holder
from huey.storage.memory.tables import Tables, end_of, remove
from huey.task.lifecycle import State


def acquire(tables: Tables, name: str, holder: Holder, ttl: float | None, now: Micros) -> int | None:
    """Take a lock and return its token, or None if it is held or its holder is gone."""
    until = now + HOLDER
    if find(tables, name, now) is not None or not _is_live(tables, holder, until, now):
        return None
    tables.lock_token += 1
    tables.locks[name] = Held(name, tables.lock_token, holder), until, end_of(ttl, now)
    return tables.lock_token


def find(tables: Tables, name: str, now: Micros) -> Held | None:
    if name not in tables.locks:
        return None
    held, until, ends = tables.locks[name]
    return held if now < ends and _is_live(tables, held.holder, until, now) else None


def held(tables: Tables, names: Sequence[str] | None, now: Micros) -> list[Held]:
    """Return the locks that are held, of *names* or all."""
    found = (find(tables, name, now) for name in (tables.locks if names is None else names))
    return [each for each in found if each is not None]


def renew(tables: Tables, holder: Holder, now: Micros) -> int:
    names = [name for name in tables.locks if (held := find(tables, name, now)) is not None and held.holder == holder]
    for name in names:
        held, _, ends = tables.locks[name]
        tables.locks[name] = held, now + HOLDER, ends
    return len(names)


def release(tables: Tables, name: str, token: int, now: Micros) -> bool:
    """Release a lock. Return False if it was no longer held with that token."""
    held = find(tables, name, now)
    if held is None or held.token != token:
        return False
    del tables.locks[name]
    return True


def _is_live(tables: Tables, holder: Holder, until: Micros, now: Micros) -> bool:
    """Return True if *holder* can hold a lock: a process until *until*, a run while it is leased."""
    if not holder.token:
        return until > now
    row = tables.tasks.rows.get(holder.id)
    if row is None or row.state != State.RUNNING or row.token != holder.token or row.worker not in tables.workers:
        return False
    return tables.workers[row.worker][1] > now


def hit(tables: Tables, name: str, limit: int, per: Micros, now: Micros) -> float:
    """Count one use of a rate limit; return 0.0 if it is among the first *limit* of its window, otherwise the seconds until the next."""
    start = now - now % per
    last, end, used = tables.rates.get(name, (start, start + per, 0))
    if last < start:
        last, end, used = start, start + per, 0
    tables.rates[name] = last, end, used + 1
    return 0.0 if used < limit else (start + per - now) / SECOND


def uses(tables: Tables, name: str, per: Micros, now: Micros, reset: bool) -> int:
    """Return the uses of a rate limit in the current window; *reset*: also clear them."""
    last, _, used = tables.rates.get(name, (0, 0, 0))
    if reset:
        tables.rates.pop(name, None)
    return used if last >= now - now % per else 0


def prune(tables: Tables, now: Micros, monotonic: Micros) -> int:
    """Remove windows that are over and locks that are no longer held."""
    free = [name for name in tables.locks if find(tables, name, monotonic) is None]
    for name in free:
        del tables.locks[name]
    return len(free) + remove(tables.rates, lambda window: window[1] <= now)
