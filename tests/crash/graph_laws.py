"""What has to be true of workflows when all is quiet, whatever was killed.

Nothing is lost, each task ends as it has to, each gets what it waited for, each failure is handled once.

How each task ended is read from the storage. The laws compare that with how the member behaves, and with the ends of those it waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from huey import Huey
from huey.task.flow import FAILURE, SUCCESS
from huey.task.reasons import NOT_NEEDED
from huey.task.workflow import failed_ancestor
from tests.crash.graphs import ENDS_WELL, ONCE, PLAIN, UNIQUE, Inputs, Node, draw, edges_of, inputs_of, nodes_of
from tests.crash.members import NODE, described
from tests.support import history

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
Lines = list[dict[str, Any]]


class End(NamedTuple):
    """How a task ended."""

    how: str
    reason: str | None = None
    failed: str = ""
    """The task whose failure it was."""
    given: Any = None
    """What a member says it was given."""
    shown: Any = None
    """Its value, as those see it that get it."""


UNKNOWN = End("unknown")
"""A unique key kept the task out, and nobody lived to tell which one stands for it."""


def ends_in(huey: Huey) -> dict[str, End]:
    """How the tasks of one queue ended, as the storage tells."""
    ends: dict[str, End] = {}
    for id, data in huey.storage.take("result").items():
        is_error, value = huey.codec.decode_result(id, data)
        if not is_error:
            is_member = isinstance(value, list) and value[:1] == [NODE]
            ends[id] = End(OK, given=value[2] if is_member else value, shown=described(value))
    for state in ("failed", "cancelled"):
        for row in huey.storage.find(state, limit=10**6):
            ancestor = failed_ancestor(row.error)
            if state == "failed" or ancestor is not None:
                ends[row.id] = End(FAILED, row.reason, row.id if ancestor is None else ancestor.id)
            else:
                ends[row.id] = End(SKIPPED, row.reason)
    return ends


def misstated(huey: Huey, ends: Mapping[str, End], most: int = 1000) -> Iterator[str]:
    """What ``status()`` and ``progress()`` say wrongly of tasks of one queue that have ended, up to *most* of each kind."""
    for state in ("failed", "cancelled"):
        for row in huey.storage.find(state, limit=most):
            yield from _misstated(huey, row.id, state, row.token)
    for id in [id for id in huey.storage.take("result") if id in ends and ends[id].how == OK][:most]:
        yield from _misstated(huey, id, "succeeded", None)


def _misstated(huey: Huey, id: str, expected: str, token: int | None) -> Iterator[str]:
    if (status := huey.status(id)) != expected:
        yield f"a status is true: {id}: {status} instead of {expected}"
    if (progress := huey.progress(id)) is not None and progress.message != f"run {token}":
        yield f"progress is of the last run, which did not succeed: {id}, {expected}, run {token}: {progress}"


class Member(NamedTuple):
    """A node that was enqueued."""

    node: Node
    graph: int
    is_sure: bool
    """Its graph was acknowledged."""
    parents: list[str]
    """Ids that it waits for, in order."""
    inputs: Inputs
    handler: str | None = None

    @property
    def thens(self) -> list[str]:
        """Those that have to succeed."""
        return self.parents if self.inputs.run_if == SUCCESS else []


class Story:
    """All graphs of a journal."""

    def __init__(self, lines: Lines) -> None:
        self.graphs: dict[int, list[str]] = {}
        self.members: dict[str, Member] = {}
        self.instead: dict[str, str] = {}
        """The task that stands for one which a unique key keeps out."""
        self.starts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.raised: set[tuple[str, int]] = set()
        self.finishes: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        """By id: token, state, and whether it was written."""
        self.acknowledged = {line["n"] for line in lines if line["op"] == "graph in"}
        for line in lines:
            self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        if line["op"] == "graph":
            self._add(line)
        elif line["op"] == "start":
            self.starts[line["id"]].append(line)
        elif line["op"] == "raised":
            self.raised.add((line["id"], line["token"]))
        self.instead.update(line.get("instead", ()))
        for id, token, state, end in line.get("finish", ()):
            self.finishes[id].append((token, state, end))

    def _add(self, line: dict[str, Any]) -> None:
        ids, graph = line["members"], draw(line["seed"], only_flows=line["flow"] is not None)
        self.graphs[line["n"]] = ids
        parents: dict[str, list[str]] = defaultdict(list)
        for parent, child, _, _ in edges_of(graph):
            parents[ids[child]].append(ids[parent])
        is_sure = line["n"] in self.acknowledged
        for id, node, inputs in zip(ids, nodes_of(graph), inputs_of(graph), strict=True):
            self.members[id] = Member(node, line["n"], is_sure, parents[id], inputs, line["handlers"].get(id))

    def giver(self, id: str) -> str:
        """The task that gives what *id* was to give."""
        return self.instead.get(id, id)


def judge_graphs(story: Story, ends: Mapping[str, End], excused: Iterable[str], mended: Iterable[str]) -> list[str]:
    """Every law that is broken. *excused*: may have failed as poison. *mended*: retried by hand, or about to be."""
    judge = _Judge(story, ends, {*excused}, {*mended})
    problems = []
    for n, ids in story.graphs.items():
        known = [id for id in ids if id in ends or id in story.starts]
        if known or n in story.acknowledged:
            for id in ids:
                if id not in story.instead:
                    problems += judge.member(id)
                    problems += judge.additions(id)
    return [*problems, *judge.handlers()]


class _Judge:
    def __init__(self, story: Story, ends: Mapping[str, End], excused: set[str], mended: set[str]) -> None:
        self._story, self._ends, self._excused, self._mended = story, ends, excused, mended

    def member(self, id: str) -> Iterator[str]:
        member, end = self._story.members[id], self._ends.get(id)
        if end is None:
            # One that a unique key kept out leaves no trace, and its producer may not have lived to tell.
            if member.is_sure or member.node.function != UNIQUE:
                law = "nothing is lost" if member.is_sure else "a workflow is enqueued whole or not at all"
                yield f"{law}: {id} of graph {member.graph}: {member}: no end"
            return
        yield from self._runs(id, member)
        yield from self._ending(id, member, end)

    def _runs(self, id: str, member: Member) -> Iterator[str]:
        starts = self._story.starts.get(id, ())
        if len({start["got"] for start in starts}) > 1:
            yield f"each run gets the same: {id}: {starts}"
        if member.node.function == ONCE and len({start["attempt"] for start in starts}) < len(starts):
            yield f"at most once: {id}: {starts}"

    def _ending(self, id: str, member: Member, end: End) -> Iterator[str]:
        if broken := self._broken_parents(member):
            yield from self._not_started(id, end, broken)
        elif member.inputs.run_if == FAILURE and end.reason == NOT_NEEDED:
            if failed := [parent for parent in member.parents if self._must_have_failed(parent)]:
                yield f"a task that runs after a failure does: {id}: {end} after {[(self._end_of(it), self._shown(it)) for it in failed]}"
        elif member.inputs.run_if == FAILURE and (end.how == OK or end.reason == "error") and not self._may_have_failed(member):
            yield f"a task that runs after a failure runs after none else: {id}: {end}"
        elif not self._may_end(id, member.node, end):
            yield f"a task ends as its function does: {id}: {member}: {end}"
        elif end.how == OK and not self._is_given(member, end.given):
            yield f"a task gets what it waited for: {id}: {end.given} for {[self._shown(parent) for parent in member.parents]}"

    def additions(self, id: str) -> Iterator[str]:
        """What a member adds to its flow is there if it succeeded."""
        member, end = self._story.members[id], self._ends.get(id)
        if member.node.how != "adds":
            return
        first, following = f"{id}.first", f"{id}.next"
        if end is None or end.how != OK:
            if found := [each for each in (first, following) if each in self._ends or each in self._story.starts]:
                yield f"a member that did not succeed adds nothing: {id}: {end}, {found}"
            return
        node = member.node._replace(how="ok", function=PLAIN)
        self._story.members[first] = Member(node, member.graph, True, [], Inputs())
        self._story.members[following] = Member(node, member.graph, True, [first], Inputs())
        yield from self.member(first)
        yield from self.member(following)

    def _end_of(self, parent: str) -> End:
        return self._ends.get(self._story.giver(parent), UNKNOWN)

    def _broken_parents(self, member: Member) -> list[End]:
        return [end for parent in member.thens if (end := self._end_of(parent)).how not in (OK, UNKNOWN.how)]

    def _not_started(self, id: str, end: End, broken: list[End]) -> Iterator[str]:
        ends = [End(it.how, "parent failed" if it.how == FAILED else "parent skipped", it.failed) for it in broken]
        if end not in ends:
            yield f"what follows a failure is cancelled: {id}: {end} after {broken}"
        if id in self._story.starts:
            yield f"what follows a failure does not run: {id}: {end} after {broken}"

    def _may_end(self, id: str, node: Node, end: End) -> bool:
        if end.how == FAILED and end.reason == "poison":
            return node.how == "poison" or id in self._excused
        if end.how == FAILED and end.reason == "lost":
            return node.function == ONCE
        if end.how == OK:
            return node.how in (*ENDS_WELL, "revoked", "expires", "hand")
        if end.how == FAILED:
            return node.how in ("fails", "hand") and end.reason == "error" and end.failed == id
        return (node.how, end.reason) in (("revoked", "revoked"), ("expires", "expired"))

    def _may_have_failed(self, member: Member) -> bool:
        return any(shown[0] == "error" for parent in member.parents for shown in self._shown(parent)) or any(
            self._end_of(parent) == UNKNOWN for parent in member.parents
        )

    def _must_have_failed(self, parent: str) -> bool:
        """Whether it failed, and not only after a retry by hand of what it waited for, when its children were decided already."""
        return self._end_of(parent).how == FAILED and all(shown[0] == "error" for shown in self._shown(parent))

    def _is_given(self, member: Member, given: Any) -> bool:
        if not member.parents:
            return given in ([], [[]])  # The second: the callback of a chord without members.
        if member.inputs.is_list:
            given = given[0] if len(given) == 1 else []
        if len(given) != len(member.parents):
            return False
        return all(shown in self._shown(parent) for parent, shown in zip(member.parents, given, strict=True))

    def _shown(self, parent: str) -> list[Any]:
        """What a parent may have given: how it ended; and how it had, before it or what it waited for was retried by hand."""
        id = self._story.giver(parent)
        end = self._ends.get(id)
        if end is None:
            # Another one stands for it, and nobody knows which.
            node = self._story.members[parent].node
            rivals = [other for other, it in self._story.members.items() if it.node[1:4] == node[1:4]]
            return [shown for rival in rivals if rival in self._ends for shown in self._shown(rival)]
        shown = [end.shown if end.how == OK else ["error", end.failed] if end.how == FAILED else ["skipped"]]
        line, above = [id], list[str]()
        while line:
            above.append(at := line.pop())
            member = self._story.members.get(at)
            line += map(self._story.giver, member.thens) if member is not None else ()
        if mended := [at for at in above if at in self._mended]:
            shown += [["error", at] for at in mended]
            # Until that retry, or by it, it may have been cancelled for another one of those that did not succeed.
            ends = [self._ends[at] for at in above if at in self._ends]
            shown += [["error", it.failed] for it in ends if it.how == FAILED]
            shown += [["skipped"]] if any(it.how == SKIPPED for it in ends) else []
        return shown

    def handlers(self) -> Iterator[str]:
        """Each failure is handled once; what was none is not."""
        runs: dict[str, set[int]] = defaultdict(set)
        for id in (*self._ends, *self._story.starts):
            handler, _, token = id.rpartition(".")
            if token.isdigit():
                runs[handler].add(int(token))
        for id, member in self._story.members.items():
            if member.handler is None:
                continue
            finishes = self._story.finishes.get(id, ())
            failures = {token for token, state, end in finishes if self._is_failure(id, token, state) and end == history.OK}
            perhaps = {token for token, state, _ in finishes if self._is_failure(id, token, state)}
            perhaps |= {token for raised, token in self._story.raised if raised == id}
            handled = runs.get(member.handler, set())
            if missing := failures - handled:
                yield f"each failure is handled: {id}: {member.handler} did not run for tokens {missing}"
            end = self._ends.get(id)
            if (more := handled - perhaps) and not (end is not None and end.reason == "poison"):
                yield f"only failures are handled: {id}: {member.handler} ran for tokens {more}"

    def _is_failure(self, id: str, token: int, state: str) -> bool:
        return state == "failed" or (state == "queued" and (id, token) in self._story.raised)
