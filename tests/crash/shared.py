"""Tasks that share something, for the application that these tests kill: keys, limits, locks, rates. And the laws about them.

Each body notes when it enters and leaves what only so many may be in at a time; a death leaves too.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

from huey import Huey
from huey.task.bounds import LARGEST
from huey.task.task import Task
from tests.support.history import Journal

KEYS = 3
AT_MOST = 2
LOCKS = 2
RATE, WINDOW = 8, 2.0
"""Uses in so many seconds of the queue's clock."""


def make_shared(huey: Huey, told: Callable[[Task], AbstractContextManager[None]], journal: Journal) -> dict[str, Callable[..., Any]]:
    @contextmanager
    def inside(task: Task, group: str, most: int, **fields: Any) -> Iterator[None]:
        with told(task):
            journal.note("enter", id=task.id, token=task.token, group=group, most=most, **fields)
            yield
            journal.note("leave", id=task.id, token=task.token, group=group)

    @huey.task(name="keyed", concurrency=AT_MOST, key="key", retries=2, include_task=True)
    def keyed(n: int, key: int, seconds: float, task: Task) -> int:
        with inside(task, f"keyed {key}", AT_MOST):
            time.sleep(seconds)
        if n % 7 == 0 and task.attempt == 0:
            raise ValueError("once more")
        return n * n

    @huey.task(name="single", unique="key", include_task=True)
    def single(n: int, key: int, seconds: float, task: Task) -> int:
        with inside(task, f"single {key}", 1):
            time.sleep(seconds)
        return n * n

    @huey.task(name="guarded", retries=LARGEST, retry_delay=0.5, include_task=True)
    def guarded(n: int, key: int, seconds: float, task: Task) -> int:
        with huey.lock_task(f"lock {key}") as lock, inside(task, f"lock {key}", 1, lock=lock.token):
            time.sleep(seconds)
        return n * n

    # Tried again when the storage is away while it counts.
    @huey.task(name="rated", retries=LARGEST, include_task=True)
    def rated(n: int, task: Task) -> int:
        before = huey.clock.now()
        huey.rate_limit("rate", RATE, WINDOW).acquire()
        journal.note("use", before=before, after=huey.clock.now())
        with told(task):
            return n * n

    @huey.task(name="paced", rate=(RATE, WINDOW), rate_key="key", include_task=True)
    def paced(n: int, key: int, asked: int, task: Task) -> int:
        journal.note("paced", key=key, asked=asked, at=huey.clock.now())
        with told(task):
            return n * n

    @huey.task(name="once", at_most_once=True, include_task=True)
    def once(n: int, seconds: float, task: Task) -> int:
        with told(task):
            time.sleep(seconds)
        return n * n

    return {"keyed": keyed, "single": single, "guarded": guarded, "rated": rated, "paced": paced, "once": once}


def put_shared(app: SimpleNamespace, rng: random.Random, n: int) -> None:
    """Put one in. ``w``: it brings n * n. ``o``: it does, or it is lost."""
    kind, seconds = rng.random(), rng.choice((0, 0.002, 0.01, 0.03))
    delay = rng.choice((None, None, rng.uniform(0.5, 5)))
    if kind < 0.35:
        app.keyed.schedule(args=(n, rng.randrange(KEYS), seconds), delay=delay, priority=rng.randrange(3), id=f"w{n}")
    elif kind < 0.6:
        app.single.schedule(args=(n, rng.randrange(KEYS), seconds), delay=delay, id=f"w{n}")
    elif kind < 0.8:
        app.guarded.schedule(args=(n, rng.randrange(LOCKS), seconds), id=f"w{n}")
    elif kind < 0.85:
        app.rated.schedule(args=(n,), id=f"w{n}")
    elif kind < 0.95:
        app.paced.schedule(args=(n, rng.randrange(KEYS), app.huey.clock.now()), delay=delay, id=f"w{n}")
    else:
        app.once.schedule(args=(n, seconds), id=f"o{n}")


# -- laws ---------------------------------------------------------------------------------------------------------------------------------


def judge_sharing(lines: Iterable[Mapping[str, Any]], deaths: Mapping[str, int]) -> list[str]:
    """What these lines say against the limits, locks and rates."""
    lines = sorted(lines, key=lambda line: line["t_call"])
    return _judge_groups(lines, deaths) + _judge_tokens(lines) + _judge_rates(lines) + _judge_pace(lines)


def _judge_groups(lines: Iterable[Mapping[str, Any]], deaths: Mapping[str, int]) -> list[str]:
    """Never more in a group than it allows."""
    problems: list[str] = []
    inside: dict[str, dict[tuple[str, int, str], int]] = defaultdict(dict)
    for line in lines:
        if line["op"] == "leave":
            inside[line["group"]].pop((line["id"], line["token"], line["node"]), None)
        elif line["op"] == "enter":
            group = inside[line["group"]]
            for who in [who for who in group if deaths.get(who[2], line["t_call"] + 1) <= line["t_call"]]:
                del group[who]
            group[line["id"], line["token"], line["node"]] = line["t_call"]
            if len(group) > line["most"]:
                problems.append(f"a limit is never exceeded: {line['group']}: {[*group]}")
    return problems


def _judge_tokens(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each holder of a lock has a greater token than all before."""
    last: dict[str, int] = {}
    problems = []
    for line in lines:
        if line["op"] == "enter" and line.get("lock") is not None:
            if line["lock"] <= last.get(line["group"], 0):
                problems.append(f"the token of a lock only grows: {line['group']}: {line['lock']} after {last[line['group']]}")
            last[line["group"]] = line["lock"]
    return problems


def _judge_rates(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Uses that surely lie in one window are not more than the rate."""
    length = round(WINDOW * 1_000_000)
    uses = Counter(
        line["before"] // length for line in lines if line["op"] == "use" and line["before"] // length == line["after"] // length
    )
    return [f"a rate is never exceeded: {count} uses in window {window}" for window, count in uses.items() if count > RATE]


def _judge_pace(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """No more bodies start than the windows allow that began since the first of them was put in."""
    length = round(WINDOW * 1_000_000)
    starts = [line for line in lines if line["op"] == "paced"]
    first = min((line["asked"] // length for line in starts), default=0)
    problems = []
    for key in range(KEYS):
        windows = sorted(line["at"] // length - first + 1 for line in starts if line["key"] == key)
        problems += [f"a rate is never exceeded: {n} starts of {key} in {many}" for n, many in enumerate(windows, 1) if n > RATE * many]
    return problems


def judge_once(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is to run at most once never starts twice."""
    starts = Counter(line["id"] for line in lines if line["op"] == "start" and line.get("name") == "once")
    return [f"at most once: {id} started {count} times" for id, count in starts.items() if count > 1]
