"""What happened to a storage, line by line, and the laws that any such history obeys (RELIABILITY T6).

    huey.storage = recording(huey.storage, "history.jsonl")      # before the consumer is made; any number of processes, one file
    ...
    problems = check(read("history.jsonl"), deaths={"4711": killed_at})

A call leaves one line when it returns: ``op, key or ids, token, node, t_call, t_return, end``. ``end``: ``ok`` it was done, ``fail`` it was
refused, ``info`` it raised, so that nobody knows. A call whose process was killed leaves no line, or a torn one, which is skipped. Nothing
is wrapped unless asked: a storage that is not recorded costs nothing. Times are microseconds of the machine's monotonic clock.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from huey.runtime.clock import SECOND, Micros, system_clock
from huey.storage.base import Storage
from huey.storage.helpers import BulkEnqueue
from huey.storage.rows import TaskIds, TaskName, Turn
from huey.task.lifecycle import FINAL
from huey.task.workflow import TaskRef

OK, FAIL, INFO = "ok", "fail", "info"


class Event(NamedTuple):
    """One thing that happened to one task. A turn is several: a finish for each end, a claim for each lease."""

    op: str
    """enqueue, claim, held, finish, release, cancelled, tick, retry; start and end of a body; or another verb of the storage. What is held
    was claimed before, by a call whose answer may have been lost."""
    id: str
    token: int
    node: str
    t_call: Micros
    t_return: Micros
    end: str = OK
    state: str = ""
    """Of a finish: where the task went. Of a tick: the minute."""


class Problem(NamedTuple):
    """A law that a history breaks."""

    law: str
    id: str
    fact: str

    def __str__(self) -> str:
        return f"{self.law}: {self.id}: {self.fact}"


# -- writing ------------------------------------------------------------------------------------------------------------------------------


class Journal:
    """A file of JSON lines that many processes append to. Each line is one ``write``, so that a kill tears at most the last one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, op: str, **fields: Any) -> None:
        """Add a line; ``node`` is this process, times are now unless given."""
        now = system_clock.monotonic()
        line = json.dumps({"op": op, "node": str(os.getpid()), "t_call": now, "t_return": now, **fields}, separators=(",", ":"))
        # A line starts anew by itself: the torn end of a killed process must not swallow it.
        os.write(self._fd, f"\n{line}\n".encode())


def recording(storage: Storage, path: str | os.PathLike[str]) -> Storage:
    """*storage*, with a journal of the calls that change tasks or hand them on. Waiting and plain looking are not recorded."""
    return cast(Storage, _Recording(storage, Journal(path)))


class _Recording:
    """Looks like the storage it stands before."""

    def __init__(self, storage: Storage, journal: Journal) -> None:
        self._storage, self._journal = storage, journal
        self.enqueue: Callable[..., Any]
        self._retry: Callable[..., Any]
        for op, describe in _RECORDED.items():
            setattr(self, "_retry" if op == "retry" else op, _told(journal, op, getattr(storage, op), describe))

    def retry(self, ids: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """The same; a line tells before that the tasks may be requeued, since a kill may come before the one that tells it after."""
        self._journal.note(op="retry", ids=list(ids), end=INFO)
        return self._retry(ids, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    @contextmanager
    def bulk_enqueue(self) -> Iterator[BulkEnqueue]:
        """The same, with what is enqueued through it: acknowledged when the block has ended well."""
        written: list[str] = []
        with self._storage.bulk_enqueue() as place:
            place.enqueue = self._untold("enqueue", place.enqueue, written)
            try:
                yield place
            finally:
                place.enqueue = self.enqueue
        if written:
            self._journal.note(op="enqueue", ids=written, end=OK)

    def _untold(self, op: str, call: Callable[..., Any], written: list[str]) -> Callable[..., Any]:
        """*call*, of which a line tells before it is made that it may have been; what it put in is added to *written*."""

        def untold(*args: Any, **kwargs: Any) -> Any:
            self._journal.note(op="enqueue", ids=[record.id for record in args[0]], end=INFO)
            answer = call(*args, **kwargs)
            written.extend(_RECORDED[op](args, answer)["ids"])
            return answer

        return untold

    def for_queue(self, name: str) -> Storage:
        return cast(Storage, _Recording(self._storage.for_queue(name), self._journal))

    def is_beside(self, other: Storage) -> bool:
        return self._storage.is_beside(other._storage if isinstance(other, _Recording) else other)

    def __repr__(self) -> str:
        return repr(self._storage)


Describe = Callable[[Sequence[Any], Any], dict[str, Any]]
"""Arguments and answer (None when there is none) of a call, as the fields of its line."""


def _told(journal: Journal, op: str, call: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
    def told(*args: Any, **kwargs: Any) -> Any:
        given = [*args, *kwargs.values()]
        begun = system_clock.monotonic()
        try:
            answer = call(*args, **kwargs)
        except BaseException as error:
            journal.note(**{"op": op, "t_call": begun, **describe(given, None), "end": INFO, "error": repr(error)[:200]})
            raise
        journal.note(**{"op": op, "t_call": begun, "end": OK, **describe(given, answer)})
        return answer

    return told


def _turn(given: Sequence[Any], answer: Turn | None) -> dict[str, Any]:
    worker, finishes = given[0], given[1]
    refused = set(answer.stale) if answer else set()
    end = OK if answer else INFO
    fields: dict[str, Any] = {"key": worker.id}
    if finishes:
        fields["finish"] = [[f.lease.id, f.lease.token, f.state, FAIL if f.lease.id in refused else end] for f in finishes]
    if answer and answer.leases:
        fields["claim"] = [[lease.id, lease.token] for lease in answer.leases]
    if answer and answer.cancelled:
        fields["cancelled"] = [refusal.id for refusal in answer.cancelled]
    return fields


def _target(target: TaskIds | TaskName) -> dict[str, Any]:
    return {"key": target.name} if isinstance(target, TaskName) else {"ids": list(target.ids)}


def _key(place: int) -> Describe:
    return lambda given, answer: {"key": given[place]}


def _enqueued(ids: Iterable[str], instead: Mapping[str, str]) -> dict[str, Any]:
    """What an enqueue of these put in; *instead*: those that were kept out, with the holder of the id or unique key."""
    return {"op": "enqueue", "ids": [id for id in ids if id not in instead], **({"instead": dict(instead)} if instead else {})}


def _workflow(given: Sequence[Any], answer: Mapping[TaskRef, str] | None) -> dict[str, Any]:
    """As an enqueue of its tasks: of all, or of none if an id is held."""
    instead = {ref.id: other for ref, other in (answer or {}).items()}
    is_held = any(id == other for id, other in instead.items())
    return _enqueued([] if is_held else [each.record.id for each in given[0].tasks], instead)


_RECORDED: dict[str, Describe] = {
    "enqueue": lambda given, answer: _enqueued([record.id for record in given[0]], answer or {}),
    "enqueue_workflow": _workflow,
    "turn": _turn,
    "release": lambda given, answer: {"tasks": [[lease.id, lease.token] for lease in given[1]]},
    "reclaim": lambda given, answer: {"key": given[0].worker.id, "claim": [[lease.id, lease.token] for lease in answer or ()]},
    "claim_missing": lambda given, answer: {"key": given[0].id, "claim": [[lease.id, lease.token] for lease in answer or ()]},
    "leases": lambda given, answer: {"key": given[0].id, "held": [[lease.id, lease.token] for lease in answer or ()]},
    "heartbeat": lambda given, answer: {"key": [worker.id for worker in given[0]]},
    "deregister": lambda given, answer: {"key": given[0].id},
    "tick": lambda given, answer: {
        "key": given[0],
        "tick": given[1],
        "ids": [given[2].id] if given[2] is not None else [],
        **({} if answer is None else {"end": OK if answer else FAIL}),
    },
    "revoke": lambda given, answer: _target(given[0]),
    "restore": lambda given, answer: _target(given[0]),
    "retry": lambda given, answer: {"ids": list(answer if answer is not None else given[0])},
    "put": _key(1),
    "pop": _key(1),
    "take": lambda given, answer: {"key": given[0], "ids": list(answer or ())},
    "delete": _key(1),
}


# -- reading ------------------------------------------------------------------------------------------------------------------------------


def lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a journal; torn ones are left out."""
    found = []
    with open(path, "rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # Empty, or torn by a kill.
            if isinstance(entry, dict):
                found.append(entry)
    return found


def read(path: str | os.PathLike[str]) -> list[Event]:
    """The events of a journal, in the order in which their calls returned."""
    return [event for line in lines(path) for event in _events(line)]


def _events(line: dict[str, Any]) -> Iterable[Event]:
    op, node, called, returned, end = line["op"], line["node"], line["t_call"], line["t_return"], line.get("end", OK)
    for id, token, state, its_end in line.get("finish", ()):
        yield Event("finish", id, token, node, called, returned, its_end, state)
    for id, token in line.get("claim", ()):
        yield Event("claim", id, token, node, called, returned, end)
    for id, token in line.get("held", ()):
        yield Event("held", id, token, node, called, returned, end)
    for id in line.get("cancelled", ()):
        yield Event("cancelled", id, 0, node, called, returned, end)
    for id, token in line.get("tasks", ()):
        yield Event(op, id, token, node, called, returned, end)
    for id in line.get("ids", ()):
        yield Event("enqueue" if op == "tick" else op, id, 0, node, called, returned, end)
    if op == "tick":
        yield Event("tick", line["key"], 0, node, called, returned, end, str(line["tick"]))
    if op in ("start", "end"):
        yield Event(op, line["id"], line["token"], node, called, returned, end)


# -- checking -----------------------------------------------------------------------------------------------------------------------------

NEVER: Micros = 2**62
LAST_CALL = 2 * SECOND
"""How long the call may have been under way in which a node was killed. It may have ended leases, and there is no line of it."""


def check(
    events: Iterable[Event],
    *,
    deaths: Mapping[str, Micros] | None = None,
    ended: Collection[str] | None = None,
    paused: Collection[str] = (),
) -> list[Problem]:
    """Every law that the history breaks; an empty list is the answer to hope for.

    *deaths*: nodes that were killed and when: what they held lives no longer, and of what they did last there may be no line. *ended*: ids
    of which the storage itself says that they ended (a result, a dead letter); None: only the history tells. *paused*: nodes that were
    stopped longer than a lease, whose runs may overlap others.
    """
    deaths = deaths or {}
    by_id: dict[str, list[Event]] = defaultdict(list)
    ticks: list[Event] = []
    heard: dict[str, Micros] = defaultdict(int)
    for event in events:
        (ticks if event.op == "tick" else by_id[event.id]).append(event)
        heard[event.node] = max(heard[event.node], event.t_return)
    last_calls = {node: min(death, max(heard[node], death - LAST_CALL)) for node, death in deaths.items()}
    problems = _ticks_fire_once(ticks)
    for id, story in by_id.items():
        problems += _ends_once(id, story, ended, bool(deaths))
        problems += _tokens_grow(id, story)
        problems += _fence_holds(id, story)
        leases = [_life(event, story, last_calls) for event in _sure(story, "claim") if event.node not in paused]
        problems += _never_overlap("two live leases of one task", id, leases)
        runs = [_run(event, story, deaths) for event in story if event.op == "start" and event.node not in paused]
        problems += _never_overlap("two live runs of one task", id, runs)
    return problems


def _ticks_fire_once(ticks: Sequence[Event]) -> list[Problem]:
    """Each tick of a name once, and never one that is older than one that had fired before."""
    law, problems = "a tick fires once", []
    fired = [event for event in ticks if event.end == OK]
    for (name, tick), count in Counter((event.id, event.state) for event in fired).items():
        if count > 1:
            problems.append(Problem(law, name, f"{tick} fired {count} times"))
    newest: dict[str, Event] = {}
    for event in sorted(fired, key=lambda event: event.t_return):
        before = newest.get(event.id)
        if before is not None and before.t_return < event.t_call and int(event.state) < int(before.state):
            problems.append(Problem(law, event.id, f"{event.state} fired after {before.state}"))
        newest[event.id] = max(event, before or event, key=lambda event: int(event.state))
    return problems


def _ends_once(id: str, story: Sequence[Event], ended: Collection[str] | None, had_deaths: bool) -> list[Problem]:
    """Total queue: what was acknowledged ends, once. A retry by hand grants one more end."""
    acknowledged = any(event.op == "enqueue" and event.end == OK for event in story)
    ends = [event for event in story if event.op == "cancelled" or (event.op == "finish" and event.state in FINAL)]
    sure = [event for event in ends if event.end == OK]
    retries = [event.end for event in story if event.op == "retry"]
    by_hand = max(retries.count(OK), retries.count(INFO))
    problems = []
    if len(sure) > 1 + by_hand:
        problems.append(Problem("a task ends once", id, f"{len(sure)} ends: {', '.join(event.state or event.op for event in sure)}"))
    if acknowledged and not sure:
        # Its end may have been written by a call that did not live to tell.
        untold = had_deaths or any(event.end == INFO for event in ends)
        if ended is None or id not in ended:
            problems.append(Problem("nothing acknowledged is lost", id, "no end"))
        elif not untold:
            problems.append(Problem("nothing acknowledged is lost", id, "it ended, but nobody ended it"))
    if not any(event.op == "enqueue" and event.end != FAIL for event in story) and not had_deaths:
        problems += [Problem("tasks come from somewhere", id, "claimed, but nobody put it in") for event in story if event.op == "claim"][
            :1
        ]
    return problems


def _tokens_grow(id: str, story: Sequence[Event]) -> list[Problem]:
    """Each claim has a higher token than every claim that had returned before it was made."""
    law, problems = "tokens grow", []
    claims = _sure(story, "claim")
    known = {(event.token, event.node) for event in claims}
    untold = {(event.token, event.node): event for event in reversed(_sure(story, "held")) if (event.token, event.node) not in known}
    claims = sorted([*claims, *untold.values()], key=lambda event: event.t_return)
    for place, earlier in enumerate(claims):
        for later in claims[place + 1 :]:
            if earlier.token == later.token:
                problems.append(Problem(law, id, f"token {later.token} was given twice, to {earlier.node} and {later.node}"))
            elif earlier.t_return < later.t_call and later.token < earlier.token:
                problems.append(Problem(law, id, f"token {later.token} was given after {earlier.token}"))
    return problems


def _sure(story: Sequence[Event], op: str) -> list[Event]:
    """The calls of that kind which were surely done. What a node holds (``held``) it may know by that alone: the answer of a claim may be
    lost."""
    return [event for event in story if event.op == op and event.end == OK]


def _fence_holds(id: str, story: Sequence[Event]) -> list[Problem]:
    """A finish is accepted only of who holds the lease: it claimed it, and nobody has claimed it since."""
    law, problems = "a worker that lost its lease changes nothing", []
    claims = _sure(story, "claim")
    known = [*claims, *_sure(story, "held")]
    accepted: Counter[int] = Counter()
    for finish in _sure(story, "finish"):
        accepted[finish.token] += 1
        if not any(claim.token == finish.token and claim.node == finish.node and claim.t_call <= finish.t_call for claim in known):
            problems.append(Problem(law, id, f"{finish.node} finished token {finish.token}, which it never claimed"))
        for claim in claims:
            if claim.token > finish.token and claim.t_return < finish.t_call:
                problems.append(Problem(law, id, f"token {finish.token} was finished after {claim.token} was given"))
    problems += [Problem(law, id, f"token {token} was finished {count} times") for token, count in accepted.items() if count > 1]
    return problems


class _Span(NamedTuple):
    """From when to when something surely lived."""

    begin: Micros
    end: Micros
    who: str


def _life(claim: Event, story: Sequence[Event], last_calls: Mapping[str, Micros]) -> _Span:
    """A lease lives from its claim's return to the call that ends it, or to the call in which its holder was killed."""
    ends = [
        event.t_call
        for event in story
        if event.op in ("finish", "release") and event.token == claim.token and event.node == claim.node and event.t_call >= claim.t_call
    ]
    return _Span(claim.t_return, min([*ends, last_calls.get(claim.node, NEVER)]), f"token {claim.token} on {claim.node}")


def _run(start: Event, story: Sequence[Event], deaths: Mapping[str, Micros]) -> _Span:
    ends = [event.t_call for event in story if event.op == "end" and event.token == start.token and event.node == start.node]
    return _Span(start.t_return, min([*ends, deaths.get(start.node, NEVER)]), f"token {start.token} on {start.node}")


def _never_overlap(law: str, id: str, spans: Iterable[_Span]) -> list[Problem]:
    problems = []
    open_until = _Span(0, 0, "")
    for span in sorted(spans):
        if span.begin < open_until.end:
            problems.append(Problem(law, id, f"{span.who} began {open_until.end - span.begin} us before the end of {open_until.who}"))
        open_until = max(open_until, span, key=lambda it: it.end)
    return problems
