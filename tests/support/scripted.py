"""What an engine is tested with: runners, a waker and a storage that do what the test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from huey.exceptions import StorageUnavailable
from huey.runtime.waker import Waker
from huey.storage.base import Waker as AnyWaker
from huey.storage.memory import MemoryStorage
from huey.storage.rows import Turn, Worker
from huey.task.lifecycle import Finish, Outcome, Returned, decide
from huey.task.record import Lease
from huey.testing.clock import FakeClock

ENDED = Returned(b"done")


class OnceRound(BaseException):
    """The engine came round as often as it was allowed to."""


class ScriptedRunners:
    """Runners whose bodies end when the test says so."""

    def __init__(self, count: int, clock: FakeClock) -> None:
        self.count = count
        self.low_water = 0
        self.clock = clock
        self.runs: list[Lease] = []
        self.ready: deque[Lease] = deque()
        self.done: list[Finish] = []
        self.awake: list[int] = []
        """What each wake-up asked for: runners to be awake."""

    def submit(self, leases: Sequence[Lease]) -> None:
        self.ready.extend(leases)
        self._begin(len(self.runs))

    def wake(self, count: int) -> None:
        self.awake.append(count)
        self._begin(max(len(self.runs), min(count, self.count)))

    def _begin(self, awake: int) -> None:
        """Who is awake takes what is ready; the others sleep until they are woken."""
        while self.ready and len(self.runs) < awake:
            self.runs.append(self.ready.popleft())

    def collect(self) -> list[Finish]:
        done, self.done = self.done, []
        return done

    def ended(self) -> int:
        return len(self.done)

    def take_back(self) -> list[Lease]:
        taken = list(self.ready)
        self.ready.clear()
        return taken

    def waiting(self) -> int:
        return len(self.ready)

    def idle(self) -> int:
        return self.count - len(self.runs)

    # -- the test's side ----------------------------------------------------------------------------------------------------------------

    def end(self, id: str, outcome: Outcome = ENDED, took: float = 1.0) -> None:
        """The body of that task ends, and the runner takes the next."""
        lease = next(lease for lease in self.runs if lease.id == id)
        self.runs.remove(lease)
        self.done.append(decide(lease, outcome, self.clock.now(), took))
        self._begin(len(self.runs) + 1)

    def end_all(self, took: float = 1.0) -> None:
        """Everything that was taken runs to its end."""
        while self.runs:
            self.end(self.runs[0].id, took=took)

    @property
    def running(self) -> list[str]:
        return [lease.id for lease in self.runs]

    @property
    def waiting_ids(self) -> list[str]:
        return [lease.id for lease in self.ready]


class ScriptedWaker(Waker):
    """Waits take no time but let it pass, and do what the test put into ``meanwhile``."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.is_rung = False
        self.rounds = float("inf")
        self.meanwhile: Callable[[], None] = lambda: None
        self.waits: list[float] = []

    def wake(self) -> None:
        self.is_rung = True

    def clear(self) -> None:
        if self.rounds <= 0:
            raise OnceRound
        self.rounds -= 1
        self.is_rung = False

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "nobody would ever wake it"
        self.waits.append(timeout)
        self.meanwhile()
        if not self.is_rung:
            self.clock.forward(timeout)
        return self.is_rung

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """Nothing is open."""


class ScriptedStorage(MemoryStorage):
    """A storage whose calls and replies may be lost."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("test", clock=clock)
        self.is_away = False
        self.loses: str | None = None
        """A verb whose next reply is lost."""
        self.wants: list[int] = []
        self.sent: list[list[str]] = []
        """Ids of the finishes of each turn."""
        self.listened = 0
        self.is_full = False
        """Finishes are written, nothing is claimed."""
        self.brings = 10**6
        """Tasks that a turn hands out at most: the others are too heavy."""
        self.at_work: Callable[[], None] = lambda: None
        """Called while a turn is at work, when all is handed over."""
        self.chokes_on: Callable[[Finish], bool] = lambda finish: False
        """Ends that it cannot take, as a value beyond its integers."""
        self.chokes_on_events = False
        self.is_deaf = False
        """``listen`` fails, the other verbs do not."""

    def _touch(self, verb: str, *, after: bool = False) -> None:
        if after and self.loses == verb:
            self.loses = None
            raise StorageUnavailable("the reply was lost")
        if self.is_away and not after:
            raise StorageUnavailable("away")

    def turn(
        self,
        worker: Worker,
        finishes: Sequence[Finish],
        want: int,
        events: Sequence[str] = (),
        now: int | None = None,
        report_promoted: bool = False,
        before_io: Callable[[], None] | None = None,
    ) -> Turn:
        self.wants.append(want)
        self.sent.append([finish.lease.id for finish in finishes])
        self._touch("turn")
        if any(self.chokes_on(finish) for finish in finishes) or (events and self.chokes_on_events):
            raise OverflowError("too large")
        few = 0 if self.is_full else min(want, self.brings)
        turn = (
            super()
            .turn(worker, finishes, few, events, now, report_promoted)
            ._replace(storage_full=self.is_full, hit_byte_limit=0 < few < want)
        )
        if before_io is not None:
            before_io()
        self.at_work()
        self._touch("turn", after=True)
        return turn

    def release(self, worker: Worker, leases: Sequence[Lease]) -> None:
        self._touch("release")
        super().release(worker, leases)
        self._touch("release", after=True)

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None, if_absent: bool = False) -> bool:
        self._touch("put")
        if self.loses == "put":
            self._touch("put", after=True)
        return super().put(kind, key, value, ttl, if_absent)

    def leases(self, worker: Worker) -> list[Lease]:
        self._touch("leases")
        held = super().leases(worker)
        self._touch("leases", after=True)
        return held

    def listen(self, worker: Worker, timeout: float, waker: AnyWaker, prefetch: bool = False, report_promoted: bool = False) -> bool:
        self.listened += 1
        self._touch("listen")
        if self.is_deaf:
            raise StorageUnavailable("deaf")
        assert isinstance(waker, ScriptedWaker)
        if self._until_due(worker) <= 0:
            return True
        return not waker.wait(timeout) and self._until_due(worker) <= 0
