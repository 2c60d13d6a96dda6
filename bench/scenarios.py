"""What is measured. Each scenario runs its pairs (peer, ours, peer, ours, ...) on fresh files and returns its rows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from machine import Failed, Side, ask, core_seconds, family, memory_mb
from table import Row, ratio_at_least

POLLING_GET = {"backoff": 1.0, "max_delay": 0.005}
"""The quickest blocking get we found for the peer: look every 5 ms."""


@dataclass(frozen=True, slots=True)
class Sizes:
    pairs: int = 5
    tasks: int = 20_000
    singles: int = 3_000
    backlog: int = 300_000
    samples: int = 100
    hog_seconds: float = 10.0
    idle_seconds: float = 30.0


QUICK = Sizes(pairs=2, tasks=4_000, singles=500, backlog=40_000, samples=30, hog_seconds=2.0, idle_seconds=6.0)


@dataclass(slots=True)
class Bench:
    """Sizes, sides, the folder for files, and what the disk can do."""

    sizes: Sizes
    sides: list[Side]
    folder: Path
    fsync_ms: float
    url: str = ""
    """Of the Redis server under test; without it SQLite is."""
    _files: itertools.count[int] = field(default_factory=itertools.count)

    def fresh(self) -> Path:
        return self.folder / f"{next(self._files)}.db"

    def discard(self, file: Path) -> None:
        if self.url:
            ask(self.url, "FLUSHALL")
        for path in self.folder.glob(file.name + "*"):
            path.unlink()

    def in_turns(self, rows: list[Row], measure: Callable[[Side, Path], list[float]]) -> list[Row]:
        """Fill the rows: one figure for each, per side, per pair."""
        for _ in range(self.sizes.pairs):
            for side in self.sides:
                file = self.fresh()
                for row, value in zip(rows, measure(side, file), strict=True):
                    (row.peer if side.name == "peer" else row.ours).append(value)
                self.discard(file)
        return rows


def drain(bench: Bench, workers: int, bar: float) -> list[Row]:
    """From 5 % consumed to the last result readable; all results are read and compared."""
    count = bench.sizes.tasks + 1

    def measure(side: Side, file: Path) -> list[float]:
        ids = f"{file}-ids"
        side.run(file, "fill", count=count - 1, ids=ids)
        return [side.run(file, "drain", workers=workers, first=count // 20, last=count, ids=ids)["rate"]]

    threads = "1 thread" if workers == 1 else f"{workers} threads"
    return bench.in_turns([ratio_at_least(f"drain {count - 1:,}, {threads}", bar)], measure)


def bulk(bench: Bench) -> list[Row]:
    """task.map against the peer's calls one by one: it has no bulk call."""
    count = bench.sizes.tasks

    def measure(side: Side, file: Path) -> list[float]:
        return [side.run(file, "fill", count=count, ids=f"{file}-ids")["rate"]]

    return bench.in_turns([ratio_at_least(f"bulk enqueue {count:,}", 50 if bench.url else 35)], measure)


def single(bench: Bench) -> list[Row]:
    """One call after the other: its rate, what it costs the processor and, in a file, what it writes."""
    rows = [
        ratio_at_least("single enqueue, one process", 1.5 if bench.url else 0.95),
        Row("  processor time of a call", "us", "" if bench.url else "<= 1.1 x", lambda row: 1 / row.ratio <= 1.1),
        Row("  written by a call", "pages"),
    ]

    def measure(side: Side, file: Path) -> list[float]:
        found = side.run(file, "single", count=bench.sizes.singles)
        return [found["rate"], found["cpu"], found["pages"]]

    return bench.in_turns(rows, measure)


def threads(bench: Bench) -> list[Row]:
    """Eight threads that enqueue at once share what a commit costs."""

    def measure(side: Side, file: Path) -> list[float]:
        return [side.run(file, "threads", count=bench.sizes.singles, workers=8)["rate"]]

    return bench.in_turns([ratio_at_least("single enqueue, eight threads", 2)], measure)


def backlog(bench: Bench) -> list[Row]:
    """Ours alone: does a long queue slow the consumer? Runs 5 % to 95 % of the first 20,000, in both cases."""
    few, many = bench.sizes.tasks, bench.sizes.backlog
    row = Row(f"first {few:,} of {many:,} (left: of {few:,})", "/s", "ratio >= 0.8", lambda row: row.ratio >= 0.8)
    side = next((side for side in bench.sides if side.name == "ours"), None)
    for _ in range(bench.sizes.pairs if side else 0):
        for waiting, values in ((few, row.peer), (many, row.ours)):
            file = bench.fresh()
            ids = f"{file}-ids"
            side.run(file, "fill", count=waiting, ids=ids)
            values.append(side.run(file, "drain", workers=1, first=few // 20, last=few - few // 20, ids=ids)["rate"])
            bench.discard(file)
    return [row]


def latency(bench: Bench) -> list[Row]:
    """Enqueue to start in another process, and call to result; the consumer has one thread and nothing else to do."""
    disk_is_quick = bench.fsync_ms < 0.3
    trip_bar = "< 2 ms and >= 20 x" if disk_is_quick else ">= 20 x (slow disk)"

    def trip_is_met(row: Row) -> bool:
        return row.ratio >= 20 and (median(row.ours) < 2 or not disk_is_quick)

    rows = [
        Row("enqueue to start, p50", "ms", "< 1 ms", lambda row: median(row.ours) < 1),
        Row("enqueue to start, p99", "ms"),
        Row("call to result p50 (peer: default get)", "ms", trip_bar, trip_is_met),
        Row("call to result p50 (peer: get polls 5 ms)", "ms", trip_bar, trip_is_met),
    ]
    if bench.url:
        rows[0].bar, rows[0].is_met = ">= 3 x", lambda row: row.ratio >= 3
        for row in rows[2:]:
            row.bar, row.is_met = ">= 1.67 x", lambda row: row.ratio >= 1 / 0.6

    def measure(side: Side, file: Path) -> list[float]:
        with side.consumer(file, workers=1):
            plain = side.run(file, "latency", samples=bench.sizes.samples, get={})
            tuned = side.run(file, "latency", samples=bench.sizes.samples, get=POLLING_GET) if side.name == "peer" else plain
        starts = tuned["starts"]
        return [median(starts), quantiles(starts, n=100)[98], median(plain["trips"]), median(tuned["trips"])]

    return bench.in_turns(rows, measure)


def weight(bench: Bench) -> list[Row]:
    """Ours in Redis alone, once: bytes of the server's memory for each waiting task, with one int as argument."""
    row = Row("memory per waiting task", "bytes", "<= 300 bytes", lambda row: max(row.ours) <= 300)
    for side in bench.sides:
        if side.name == "ours" and bench.url:
            file = bench.fresh()
            side.run(file, "fill", count=10, ids=f"{file}-ids")
            before = used_memory(bench.url)
            side.run(file, "fill", count=bench.sizes.tasks, ids=f"{file}-ids")
            row.ours.append((used_memory(bench.url) - before) / bench.sizes.tasks)
            bench.discard(file)
    return [row]


def used_memory(url: str) -> int:
    """Of a Redis server, in bytes."""
    return int(ask(url, "INFO", "memory").partition(b"used_memory:")[2].split()[0])


def gil_hog(bench: Bench) -> list[Row]:
    """Ours alone, once: a task keeps the GIL in a C call while another process enqueues."""
    seconds = bench.sizes.hog_seconds
    row = Row(f"worst enqueue beside a {seconds:g} s GIL hog", "ms", "< 200 ms", lambda row: max(row.ours) < 200)
    for side in bench.sides:
        if side.name == "ours":
            file = bench.fresh()
            with side.consumer(file, workers=4):
                row.ours.append(side.run(file, "beside_a_hog", seconds=seconds)["worst"])
            bench.discard(file)
    return [row]


def idle(bench: Bench) -> list[Row]:
    """The consumer command with four threads and nothing to do: core time and memory of all its processes. Once per side."""
    seconds = bench.sizes.idle_seconds
    rows = [
        Row(f"idle for {seconds:g} s, of a core", "%", "< 0.5 %", lambda row: max(row.ours) < 0.5),
        Row("idle, memory (PSS) of all processes", "MB", "<= 45 MB", lambda row: max(row.ours) <= 45),
    ]
    for side in bench.sides:
        file = bench.fresh()
        with side.command(file, workers=4) as command:
            # It has worked: modules and pages that a task needs are there.
            side.run(file, "latency", samples=3, get={})
            time.sleep(2)
            pids = family(command.pid)
            before = core_seconds(pids)
            time.sleep(seconds)
            if family(command.pid) != pids:
                raise Failed(f"{side.name}: the processes of an idle command changed")
            figures = (core_seconds(pids) - before) / seconds * 100, memory_mb(pids)
        for row, value in zip(rows, figures, strict=True):
            (row.peer if side.name == "peer" else row.ours).append(value)
        bench.discard(file)
    return rows


def import_time(bench: Bench) -> list[Row]:
    statements = ["import huey", "from huey import Huey, crontab"]

    def measure(side: Side, file: Path) -> list[float]:
        return [median(side.import_time(statement) for _ in range(7)) for statement in statements]

    return bench.in_turns([Row(statement, "ms") for statement in statements], measure)


SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "drain-1": lambda bench: drain(bench, workers=1, bar=30 if bench.url else 25),
    "drain-4": lambda bench: drain(bench, workers=4, bar=30 if bench.url else 25),
    "bulk": bulk,
    "single": single,
    "threads": threads,
    "backlog": backlog,
    "latency": latency,
    "hog": gil_hog,
    "idle": idle,
    "import": import_time,
    "weight": weight,
}
ON_REDIS = ("drain-1", "drain-4", "bulk", "single", "threads", "backlog", "latency", "weight")


def run(name: str, bench: Bench) -> list[tuple[str, ...]]:
    """The cells of one scenario. Failed when it did not run as it must."""
    rows = SCENARIOS[name](bench)
    if not any(row.ours or row.peer for row in rows) and len(bench.sides) > 1:
        raise Failed("nothing was measured")
    return [row.cells() for row in rows]
