"""The walk of a call: which files of src/huey a reader visits between `add(1, 2)` and its return, and for `get()`.

`make walk` prints, for SQLite and Redis, the calls of functions of huey, the files they are in, how often the walk changes from one file
to another, and how long each file is. Redis is walked where a redis-server or valkey-server is on PATH.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bench.machine import Failed, redis_server

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "huey"

# Each is called this often before it is traced, so that what is made once (connections, caches, the loading of modules) is not counted.
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Walk:
    """What one call did in src/huey: the file and function of each call of a function, in order."""

    title: str
    steps: tuple[tuple[str, str], ...]

    @property
    def files(self) -> Counter[str]:
        """How many calls each file got."""
        return Counter(file for file, _ in self.steps)

    @property
    def changes(self) -> int:
        """How often a call is in another file than the call before it."""
        return sum(one[0] != other[0] for one, other in zip(self.steps, self.steps[1:], strict=False))

    def table(self) -> str:
        sizes = {file: len((SOURCE / file).read_text("utf-8").splitlines()) for file in self.files}
        rows = [f"  {calls:5} {sizes[file]:6}  {file}" for file, calls in self.files.most_common()]
        total = f"{self.title}: {len(self.steps)} calls, {len(self.files)} files, {self.changes} changes of file"
        return "\n".join([f"{total}, longest file {max(sizes.values())} lines", "  calls  lines  file", *rows])

    def story(self) -> str:
        """Every step, a file once where it follows itself."""
        lines = []
        for i, (file, function) in enumerate(self.steps):
            lines.append(f"  {file if not i or file != self.steps[i - 1][0] else '':36} {function}")
        return "\n".join([self.title, *lines])


def walk(title: str, call: Callable[[], object]) -> Walk:
    """Trace *call* in this thread. A comprehension counts as a function, and so does each step of a generator expression."""
    steps: list[tuple[str, str]] = []
    prefix = f"{SOURCE}/"

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(prefix):
            steps.append((code.co_filename.removeprefix(prefix), code.co_qualname))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Walk(title, tuple(steps))


def walks_of(huey: Any, name: str) -> list[Walk]:
    """`add(1, 2)` while a consumer is idle, and `get()` of a result that is there."""

    @huey.task()
    def add(a: int, b: int) -> int:
        return a + b

    with running(huey):
        for _ in range(WARM_UP):
            assert add(1, 2).get(blocking=True, timeout=10) == 3
            time.sleep(0.01)  # so that the consumer is idle again
        added = walk(f"{name}, add(1, 2)", lambda: add(1, 2))
        results = [add(1, 2) for _ in range(WARM_UP)]
        add(1, 2).get(blocking=True, timeout=10)  # in order: the others have ended by then
    for result in results[1:]:
        assert result.get() == 3
    return [added, walk(f"{name}, get()", results[0].get)]


@contextmanager
def running(huey: Any) -> Iterator[None]:
    """A consumer in this process, with one thread."""
    consumer = huey.create_consumer(workers=1, periodic=False)
    consumer.start()
    try:
        yield
    finally:
        consumer.stop(graceful=True)


def sqlite_walks() -> list[Walk]:
    from huey import SqliteHuey

    with tempfile.TemporaryDirectory() as folder:
        huey = SqliteHuey("walk", filename=f"{folder}/walk.db")
        try:
            return walks_of(huey, "SQLite")
        finally:
            huey.close()


def redis_walks() -> list[Walk]:
    from huey import RedisHuey

    with tempfile.TemporaryDirectory() as folder:
        try:
            with redis_server(Path(folder)) as url:
                huey = RedisHuey("walk", url=url)
                try:
                    return walks_of(huey, "Redis")
                finally:
                    huey.close()
        except Failed as failure:
            print(f"Redis: not walked, {failure}", file=sys.stderr)
            return []


def main(argv: Sequence[str]) -> int:
    if [*argv] not in ([], ["--steps"]):
        print("usage: python -m tools.walk [--steps]", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT / "src"))
    for found in [*sqlite_walks(), *redis_walks()]:
        print(found.story() if argv else found.table(), end="\n\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
