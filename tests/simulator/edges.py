"""What must hold of tasks that wait for others: a book of all edges, over all queues, that each end is told to.

I13: no task waits for what can no longer happen. I14: a task that waits is queued once, when its parents have ended, and gets of each what
that gave, once. The book follows an end down to the last task that it cancels, by the words of the contract, and asks no storage how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from huey.storage.base import FOREVER, Storage
from huey.storage.rows import Revocation
from huey.task.lifecycle import FINAL, State
from huey.task.reasons import PARENT_FAILED, PARENT_SKIPPED
from huey.task.workflow import FAILED, JOIN, SKIPPED, SUCCEEDED, THEN, Opened, ParentEnd, TaskRef, Workflow, failed_ancestor
from tests.simulator.entry import Entry
from tests.simulator.rules import demand

if TYPE_CHECKING:
    from tests.simulator.ledger import Ledger

BY_PARENT = (PARENT_FAILED, PARENT_SKIPPED)
"""Why a task is CANCELLED that never ran, because of one it waited for."""


class Gift(NamedTuple):
    """What a task gave to those that wait for it."""

    outcome: str = SKIPPED
    value: bytes | None = None
    failed: TaskRef | None = None
    """The task whose failure it was."""


class Link:
    """An edge, as its child has it."""

    def __init__(self, parent: TaskRef, kind: str) -> None:
        self.parent = parent
        self.kind = kind
        self.gift: Gift | None = None
        """None until the parent has ended."""

    @property
    def is_broken(self) -> bool:
        """Its child cannot run."""
        return self.kind == THEN and self.gift is not None and self.gift.outcome != SUCCEEDED


class Edges:
    """The edges of the tasks in *ledgers*, which are entered by name of their queue."""

    def __init__(self, counts: Counter[str]) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.counts = counts
        self.added: dict[TaskRef, list[TaskRef]] = {}
        """What the ends of tasks have put in."""
        self.opened: list[TaskRef] = []
        """Tasks that were queued because of others, since the last turn began."""
        self._causes: list[tuple[TaskRef, Gift]] = []
        """What tasks were cancelled for, as the storage says, until all that ended in the same step is known."""
        self._left: list[tuple[TaskRef, Gift]] = []
        """Tasks that were cancelled when the last of their parents ended: what waits for them is cancelled with the next step."""
        self._links: dict[TaskRef, dict[int, Link]] = {}
        self._children: dict[TaskRef, set[tuple[TaskRef, int]]] = {}

    def entry(self, ref: TaskRef) -> Entry:
        return self.ledgers[ref.queue].entries[ref.id]

    def has_edges(self, ref: TaskRef) -> bool:
        return ref in self._links or bool(self._children.get(ref))

    def shape(self, ref: TaskRef) -> tuple[int, bool]:
        """Return how many parents a task has, and whether others wait for it."""
        return len(self._links.get(ref, ())), bool(self._children.get(ref))

    def is_held(self, ref: TaskRef) -> bool:
        entry = self.ledgers[ref.queue].entries.get(ref.id)
        return entry is not None and entry.state != State.SUCCEEDED

    # -- what happens to them -----------------------------------------------------------------------------------------------------------

    def enqueue(self, workflow: Workflow) -> None:
        """A workflow was put in, whole."""
        for edge in workflow.edges:
            self._links.setdefault(edge.child, {})[edge.position] = Link(edge.parent, edge.kind)
            self._children.setdefault(edge.parent, set()).add((edge.child, edge.position))
        replaced = {new for new, old in workflow.replaces.items() if self.entry(old).waits}
        for ref, record in ((each.ref, each.record) for each in workflow.tasks):
            self.ledgers[ref.queue].begin(record, waits=ref in self._links or ref in replaced)
        for new, old in workflow.replaces.items():
            self._replace(new, old)

    def _replace(self, new: TaskRef, old: TaskRef) -> None:
        former = self.entry(old)
        self.counts["replaced while it waited" if former.waits else "replaced"] += 1
        # What it gave before it was retried by hand is still from it.
        for child, position in [it for it in self._children.get(old, ()) if self._links[it[0]][it[1]].gift is None]:
            self._links[child][position].parent = new
            self._children[old].discard((child, position))
            self._children.setdefault(new, set()).add((child, position))
        for position, link in self._links.pop(old, {}).items():
            self._links.setdefault(new, {})[position] = link
            self._children[link.parent].discard((old, position))
            self._children[link.parent].add((new, position))
        former.mark = Revocation(FOREVER, False)
        if former.waits:
            self.ledgers[old.queue].end(former, State.CANCELLED, "revoked", Gift())

    def ended(self, ref: TaskRef, gift: Gift) -> None:
        """A task has ended: so do its edges, and those of the tasks that this cancels."""
        for child, position in sorted(self._children.get(ref, ())):
            link = self._links[child][position]
            if link.gift is not None:
                continue
            link.gift, entry = gift, self.entry(child)
            if not entry.waits:
                continue
            if link.is_broken:
                self._cancel(child)
            elif all(other.gift is not None for other in self._links[child].values()):
                # One of its parents may have been retried by hand and have succeeded now, while another one had failed too.
                is_broken = any(other.is_broken for other in self._links[child].values())
                self._left.append((child, self._cancel(child, cascades=False))) if is_broken else self._open(child, ref)

    def settle_left(self) -> None:
        """A later step settles what an earlier one left."""
        left, self._left = self._left, []
        for ref, gift in left:
            self.ended(ref, gift)

    def _cancel(self, ref: TaskRef, *, cascades: bool = True) -> Gift:
        """Several parents may have ended without success, in one turn even: the storage says because of which it is cancelled."""
        ledger = self.ledgers[ref.queue]
        row = ledger.storage.get(ref.id)
        reason = PARENT_FAILED if row is not None and row.reason == PARENT_FAILED else PARENT_SKIPPED
        failed = failed_ancestor(row.error) if row is not None and reason == PARENT_FAILED else None
        gift = Gift(SKIPPED if failed is None else FAILED, None, failed)
        self._causes.append((ref, gift))
        ledger.end(self.entry(ref), State.CANCELLED, reason, gift if cascades else None)
        return gift

    def _open(self, ref: TaskRef, parent: TaskRef) -> None:
        self.ledgers[ref.queue].queue(self.entry(ref))
        self.opened.append(ref)
        kind = "joined" if any(link.kind == JOIN for link in self._links[ref].values()) else "opened"
        self.counts[kind if ref.queue == parent.queue else f"{kind} in another queue"] += 1

    def put_back(self, refs: list[TaskRef]) -> None:
        """Tasks were retried by hand: those that they cancelled wait again, and so does a join that was not queued yet, or is retried with
        them."""
        walk = list(refs)
        for ref in walk:
            for child, link in self._lost(ref):
                entry = self.entry(child)
                if link.kind == THEN and entry.state == State.CANCELLED and entry.reason in BY_PARENT:
                    walk.append(child)
                    self.ledgers[child.queue].wait_again(entry)
                    self.counts["waits again"] += 1
        for ref in walk:
            for child, link in self._lost(ref):
                if self.entry(child).waits or child in refs:
                    self.counts["retried with what it waits for"] += child in refs
                    self.entry(child).waits, link.gift = True, None

    def _lost(self, ref: TaskRef) -> Iterator[tuple[TaskRef, Link]]:
        for child, position in sorted(self._children.get(ref, ())):
            link = self._links[child][position]
            if link.gift is not None and link.gift.outcome != SUCCEEDED:
                yield child, link

    # -- what must hold -----------------------------------------------------------------------------------------------------------------

    def check_opened(self, answer: list[Opened]) -> None:
        """A turn says, once each, which tasks it queued."""
        self._check_causes()
        told = sorted(TaskRef(it.queue, it.id) for it in answer)
        demand(told == sorted(self.opened), "I14", f"a turn queued {told}, and the parents have ended of {sorted(self.opened)}")

    def _check_causes(self) -> None:
        for ref, gift in self._causes:
            broken = [(link.gift.outcome, link.gift.failed) for link in self._links[ref].values() if link.gift and link.is_broken]
            demand((gift.outcome, gift.failed) in broken, "I14", f"{ref.id} was cancelled for {gift}, its parents gave {broken}")
        self._causes.clear()

    def check_gifts(self, ref: TaskRef, storage: Storage) -> None:
        """A run of a task reads what each of its parents gave, once."""
        links = sorted(self._links.get(ref, {}).items())
        gave = [(at, link.kind, *(link.gift or Gift())[:2], (link.gift and link.gift.failed) or link.parent) for at, link in links]
        told = [(it.position, it.kind, it.outcome, it.value, it.parent) for it in read_gifts(storage, ref.id)]
        demand(told == gave, "I14", f"{ref.id} reads {told}, its parents gave {gave}")

    def check_waiting(self) -> None:
        """All tasks that wait, as the storage has them, wait for some that can still end."""
        self._check_causes()
        if self._left:
            return
        for ledger in self.ledgers.values():
            waiting = {row.id for row in ledger.storage.find(State.WAITING, limit=10_000)}
            known = {id for id, entry in ledger.open.items() if entry.waits}
            demand(waiting == known, "I13", f"{sorted(waiting)} wait, it should be {sorted(known)}")
            open = [edge for edge in ledger.storage.edges(sorted(waiting)) if edge.child.id in waiting and edge.outcome is None]
            demand({edge.child.id for edge in open} >= waiting, "I13", f"of {sorted(waiting)} some wait for nothing")
            for edge in open:
                row = self.ledgers[edge.parent.queue].storage.get(edge.parent.id)
                is_live = row is not None and row.state not in FINAL
                demand(is_live, "I13", f"{edge.child.id} waits for {edge.parent.id}, which is {row and row.state}")


def read_gifts(storage: Storage, id: str) -> list[ParentEnd]:
    """Return how the parents of a task have ended, as the executor reads it."""
    found, after = list[ParentEnd](), -1
    while piece := storage.parent_ends(id, after):
        found, after = found + piece, piece[-1].position
    return found
