"""The ``options`` of a record, a JSON object with the run policy of one call and its constraints. Pure.

    {"backoff": 2.0, "timeout": 5, "keep": microseconds, ...,
     "constraints": {"unique": [key, "done" | "waiting" | seconds], "limit": [key, n or null], "rate": [n, microseconds], "once": true,
                     "keep_id": seconds, "own": microseconds},
     "parents": number of tasks it waits for, "children": whether tasks wait for it}

A member is present only if it differs from its default. Storages read ``constraints`` in their own language (SQL, Lua).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from huey.runtime.clock import Micros

DONE, WAITING = "done", "waiting"


class Constraints(NamedTuple):
    """The constraints of one task: a unique key, a concurrency limit and a rate, at most one run, a reserved id."""

    unique: str | None = None
    """While a task holds this key, no other task with the same key is enqueued."""
    unique_for: str | float = DONE
    """How long the task holds the key: until it is ``DONE`` (has ended), while it is ``WAITING`` to start, or this many seconds."""
    concurrency_key: str | None = None
    """At most ``max_running`` tasks with this key run at a time, and no more than ``rate`` allows are started, over all workers."""
    max_running: int | None = None
    at_most_once: bool = False
    """If its worker dies, the task fails instead of running again."""
    id_ttl: float | None = None
    """For how many seconds after its enqueue or eta its id stays reserved, even after it has ended. Only with ``own``."""
    own: int | None = None
    """When this enqueue happened, in microseconds UTC, to distinguish the enqueues of one id. Set only if its id may be enqueued again."""
    rate: tuple[int, Micros] | None = None
    """How many tasks with ``concurrency_key`` are claimed in one window, and its length. Windows begin at multiples of that."""

    @property
    def holds_key(self) -> bool:
        """True if the row of the task holds its unique key, rather than a reservation for some seconds."""
        return self.unique is not None and isinstance(self.unique_for, str)


NONE = Constraints()
SHORT = 256
"""Options of up to this many characters are remembered as they were read: many tasks share short ones."""
KEEP = "keep"
"""The member that says how long the task is kept when it has succeeded."""
FIRST = 0
"""The value by which revocations name the enqueue of a record without ``own``."""


def may_have_constraints(options: str | None) -> bool:
    """Return False if a record with these *options* has no constraints; a cheap check before `read_constraints`."""
    return options is not None and '"constraints"' in options


def read_constraints(options: str | None) -> Constraints:
    """Return the constraints in the *options* of a record, or ``NONE`` if it has none."""
    found = json.loads(options).get("constraints") if options is not None and may_have_constraints(options) else None
    if not isinstance(found, dict):
        return NONE
    unique, unique_for = found.get("unique") or (None, DONE)
    key, most = found.get("limit") or (None, None)
    rate = found.get("rate")
    times = found.get("keep_id"), found.get("own")
    return Constraints(unique, unique_for, key, most, bool(found.get("once")), *times, (rate[0], rate[1]) if rate else None)


def with_constraints(options: str | None, constraints: Constraints) -> str | None:
    """Return *options* with their constraints replaced by *constraints*."""
    policy: dict[str, Any] = {} if options is None else json.loads(options)
    policy.pop("constraints", None)
    members: dict[str, Any] = {}
    if constraints.unique is not None:
        members["unique"] = [constraints.unique, constraints.unique_for]
    if constraints.concurrency_key is not None:
        members["limit"] = [constraints.concurrency_key, constraints.max_running]
    if constraints.rate is not None:
        members["rate"] = constraints.rate
    if constraints.at_most_once:
        members["once"] = True
    if constraints.id_ttl is not None:
        members["keep_id"] = constraints.id_ttl
    if constraints.own is not None:
        members["own"] = constraints.own
    if members:
        policy["constraints"] = members
    return json.dumps(policy) if policy else None


def with_edges(options: str | None, parents: int, has_children: bool) -> str | None:
    """Return *options* of a task that waits for so many *parents*, and for whose end others wait."""
    if not parents and not has_children:
        return options
    policy: dict[str, Any] = {} if options is None else json.loads(options)
    if parents:
        policy["parents"] = parents
    if has_children:
        policy["children"] = True
    return json.dumps(policy)


def with_members(options: str | None, members: Mapping[str, Any]) -> str | None:
    """Return *options* with *members*, of which empty ones are left out."""
    policy: dict[str, Any] = {} if options is None else json.loads(options)
    policy.update(members)
    policy = {name: value for name, value in policy.items() if value or name not in members}
    return json.dumps(policy) if policy else None


LARGEST_DELAY = 2**31 - 1
"""Seconds."""
_LARGEST_TIME = 2**53


def write_policy(
    *,
    backoff: float = 0,
    jitter: float = 0,
    cap: float | None = None,
    timeout: float | None = None,
    expires_in: int | None = None,
    wall: int | None = None,
    keep: Micros | None = None,
    headers: dict[str, str] | None = None,
) -> str | None:
    """Return the run policy of one call as JSON, or None if it is the default.

    *backoff*: growth factor of the wait between two tries; 0: the wait does not grow. *jitter*: the largest share that is added to a wait.
    *cap*: maximum wait in seconds. *timeout*: maximum seconds of a run, if this call has its own limit (0: none). *expires_in*:
    microseconds from each enqueue to its expiry. *wall*: the time on the consumer's clock when it is due, see
    `huey.runtime.times.wall_time`. *keep*: microseconds that it is kept when it has succeeded. *headers*: headers of an instrumentation,
    plain values only.
    """
    given: dict[str, Any] = {"backoff": backoff, "jitter": jitter, "cap": cap, "timeout": timeout, "expires_in": expires_in, "wall": wall}
    given |= {KEEP: keep, "headers": headers}
    policy = {name: value for name, value in given.items() if value is not None and (value or name not in ("backoff", "jitter"))}
    if not backoff:
        policy.pop("cap", None)
    return json.dumps(policy) if policy else None


def read_policy(options: str | None) -> Mapping[str, Any]:
    """Return the members of *options*, or an empty mapping if there are none."""
    if not options:
        return {}
    return _read_short(options) if len(options) <= SHORT else _read(options)


def _read(options: str) -> Mapping[str, Any]:
    policy = json.loads(options)
    return policy if isinstance(policy, dict) else {}


_read_short = lru_cache(maxsize=64)(_read)


def policy_micros(options: str | None, name: str) -> int | None:
    """Return the time or duration in *options* under *name*, or None if it is missing or invalid."""
    value = read_policy(options).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_TIME else None


def kept_for(options: str) -> Micros | None:
    """Return how long the task is kept when it has succeeded, or None if *options* do not say."""
    return policy_micros(options, KEEP) if f'"{KEEP}"' in options else None


def count_request(options: str | None) -> str | None:
    """Return *options* with one more requested run counted, or None if the wait does not grow, which leaves them unchanged."""
    policy = read_policy(options)
    if not policy.get("backoff"):
        return None
    return _with_requests(policy, _requests(policy) + 1)


def with_requests_of(options: str | None, other: str | None) -> str | None:
    """Return *options* with the number of requested runs that *other* has counted; unreadable options count as none."""
    if other is None or '"asked"' not in other:
        return options
    try:
        count = _requests(read_policy(other))
    except ValueError:
        return options
    return _with_requests(read_policy(options), count) if count else options


def without_requests(options: str | None) -> str | None:
    """Return *options* without the count of requested runs."""
    return options if options is None or '"asked"' not in options else _with_requests(read_policy(options), 0)


def _with_requests(policy: Mapping[str, Any], count: int) -> str:
    others = {name: value for name, value in policy.items() if name != "asked"}
    return json.dumps({**others, "asked": count} if count else others)


def _requests(policy: Mapping[str, Any]) -> int:
    count = policy.get("asked")
    return min(count, LARGEST_DELAY) if isinstance(count, int) and count > 0 else 0


def backoff_delay(delay: float, policy: Mapping[str, Any], attempt: int) -> float:
    """Return the delay before the next try after *attempt* tries failed. With a backoff it grows with each of them, and with each run that
    the body requested, up to its cap."""
    try:
        wait = delay * (policy.get("backoff") or 1) ** (attempt + _requests(policy))
    except OverflowError:
        wait = float(LARGEST_DELAY)
    return float(min(wait, policy.get("cap", LARGEST_DELAY)))
