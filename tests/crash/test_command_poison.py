"""Poison among good tasks: what kills its process, or hurts it, ends as it must; the others lose nothing but time.

Each poison ends after at most four runs, as FAILED with its reason. No good task is lost, fails, or loses a try. The supervisor lives.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from typing import Any, NamedTuple

import pytest

from huey.task.record import Record
from tests.crash import poison
from tests.crash.commands import KINDS
from tests.crash.tools import FAILS, most_common_problems
from tests.support.helpers import wait_until

pytestmark = pytest.mark.timeout(90)

GOOD = 150
MOST_RUNS = 4
A_DAY_AND_MORE = 25 * 3600 * 10**6
"""Microseconds."""


class End(NamedTuple):
    """How a poison may end."""

    reason: str | None
    """Of the failed row; None: it may end well."""
    says: str = ""
    """Stands in its error."""
    most_runs: int = MOST_RUNS


ENDS = {
    "segfault": End("poison", "SIGSEGV"),
    "abort": End("poison", "SIGABRT"),
    "leave_at_once": End("poison", "3"),
    "out_of_memory": End("poison", "SIGKILL"),
    "overflow": End("poison", "SIGSEGV"),
    "starve": End("error", "MemoryError", 1),
    "leave": End("error", "SystemExit", 1),
    "unpicklable": End("result not storable", "", 1),
    "endless_c": End("timeout", "", 1),
    "endless_gil": End("timeout", "", 1),
    "endless": End("timeout", "TaskTimeout", 1),
    "close_all": End("poison", "exit code 70"),
    "deafen": End(None, "", 1),
    "move": End(None, "", 1),
    "split": End(None),
    "leave_a_thread": End(None, "", 1),
}


ALONE = ("close_all",)
"""SQLite loses its locks when its descriptors are closed. A thread that commits in that moment goes on without them, and two processes then
write to one place: nobody can prevent that, so nothing else runs beside this one."""


def test_every_poison_has_an_end() -> None:
    harms = (*poison.KILLERS, *poison.FAILING, *poison.HARMFUL, *poison.ENDLESS)
    assert {harm.__name__ for harm in harms} == ENDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_poison_among_good_tasks_hurts_itself_only(make_commanded: Any, show: Any, kind: Any) -> None:
    place = make_commanded()
    place.lives_by_rule = False
    names = [name for name in ENDS if name not in ALONE]
    if kind == "thread":
        # Its neighbours in other threads would rightly fail for want of memory.
        names.remove("starve")
    poisons = scatter(place, names)
    place.storage.enqueue([Record("stranger", "nobody.knows", b"?")])
    # A relative path: a task that changes the folder must not lead the others to another file.
    command = place.command(kind, "-n", CHAOS_FILE="queue.db", cwd=place.folder)
    supervisor = command.pid

    wait_until(
        lambda: (len(place.storage.items("result")) >= GOOD and is_over(place)) or not command.is_alive, "all have ended", timeout=60
    )

    assert command.is_alive, command.log[-6000:]
    assert command.pid == supervisor
    stranger = place.storage.get("stranger")
    assert (stranger.state, stranger.reason) == ("blocked", "unknown task")
    age(place, "stranger")
    wait_until(lambda: place.storage.get("stranger").state == "failed", "the unknown task is given up")
    assert command.stop() == 0, command.log[-6000:]
    wait_until(lambda: not place._strangers(), "no process is left over")
    problems = judge_poisons(place, poisons) + judge_good(place, poisons)
    runs = {name: len(place.started(id)) for name, id in poisons.items()}
    show(f"runs of each poison: {runs}; runs of good ones: {len(place.runs()) - sum(runs.values())} of {GOOD}")
    assert not problems, most_common_problems(problems) + "\n" + command.log[-3000:]
    assert sqlite3.connect(place.folder / "queue.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_closes_all_descriptors_is_poison(make_commanded: Any, kind: Any) -> None:
    place = make_commanded()
    place.lives_by_rule = False
    command = place.command(kind, "-n")

    poison = place.app.close_all().id
    wait_until(lambda: place.storage.get(poison).state == "failed" or not command.is_alive, "it has failed", timeout=60)
    assert command.is_alive, command.log[-6000:]
    good = place.work(1, 0)
    wait_until(lambda: place._result(good) is not None, "the next task has run")

    assert command.stop() == 0, command.log[-6000:]
    problems = judge_poisons(place, {"close_all": poison}) + judge_good(place, {"close_all": poison})
    assert not problems, most_common_problems(problems) + "\n" + command.log[-3000:]
    assert sqlite3.connect(place.folder / "queue.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def scatter(place: Any, names: Any) -> Any:
    """Good tasks with poison between them: ids by name of the poison."""
    rng, poisons = random.Random(7), {}
    places = rng.sample(range(GOOD), len(names))
    for n in range(GOOD):
        if n in places:
            name = names[places.index(n)]
            poisons[name] = getattr(place.app, name)().id
        if n % 2:
            place.flaky(n, failures=0)
        else:
            place.work(n, rng.choice((0, 0.01, 0.05)))
    return poisons


def is_over(place: Any) -> Any:
    """Nothing is left but the unknown one."""
    counts = place.storage.counts()
    return counts.ready == counts.running == 0 and counts.blocked == 1


def age(place: Any, id: Any) -> None:
    """As if it had waited for more than a day."""
    with sqlite3.connect(place.folder / "queue.db", timeout=5) as connection:
        connection.execute(
            "UPDATE huey_task SET unknown_until = unknown_until - ?, due = due - ? WHERE id = ?", (A_DAY_AND_MORE, A_DAY_AND_MORE, id)
        )
    connection.close()


def judge_poisons(place: Any, poisons: Any) -> Any:
    problems = []
    for name, id in poisons.items():
        end, row, runs = ENDS[name], place.storage.get(id), len(place.started(id))
        # Even what kills nobody may be killed: by a neighbour, or by the next task of its worker before its end was written (C2).
        most = max(end.most_runs, MOST_RUNS)
        if not 1 <= runs <= most:
            problems.append(f"poison runs at most {most} times: {name} ran {runs} times")
        if end.reason is None:
            if row is not None and (row.state, row.reason) != ("failed", "poison"):
                problems.append(f"poison ends: {name}: {row}")
        elif row is None or (row.state, row.reason) != ("failed", end.reason):
            problems.append(f"poison fails with its reason: {name}: {row}, expected {end.reason}")
        elif end.says not in str(row.error):
            problems.append(f"a failure says what happened: {name}: {row.error}, expected {end.says}")
    return problems


def judge_good(place: Any, poisons: Any) -> Any:
    problems = []
    for id, expected in place.expected.items():
        assert expected is not FAILS
        found = place._result(id)
        if found != expected:
            problems.append(f"no good task is lost: {id}: {found}, {place.storage.get(id)}")
    blamed = [row for row in place.storage.find("failed", limit=1000) if row.id not in {*poisons.values(), "stranger"}]
    problems += [f"no good task is blamed: {row}" for row in blamed]
    runs = Counter((run.id, run.token) for run in place.runs() if run.id in place.expected)
    problems += [f"a copy of a worker runs nothing: {run} {count} times" for run, count in runs.items() if count > 1]
    tries = [run for run in place.runs() if run.id in place.expected and run.attempt]
    problems += [f"a crash is not a try: {run}" for run in tries]
    return problems
