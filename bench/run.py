"""Compares this tree with huey's newest release, in turns, on one machine, in one run. `make bench`; ARGS="--quick" for a first look.

Rates of a shared machine move by a factor of two between hours: trust the ratios, taken pair by pair. A task that did not run fails its
scenario. The exit code is 0 when all scenarios ran as they must, whatever the bars say.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import machine
import table
from scenarios import ON_REDIS, QUICK, SCENARIOS, Bench, Sizes, run


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and two pairs: a first look, nothing to publish")
    parser.add_argument("--pairs", type=int, help="how often each side runs (5; quick 2)")
    parser.add_argument("--tasks", type=int, help="tasks per drain and bulk run (20000; quick 4000)")
    parser.add_argument("--storage", choices=["sqlite", "redis"], default="sqlite", help="where the queues lie (sqlite)")
    parser.add_argument("--only", help=f"scenarios, comma separated: {', '.join(SCENARIOS)}")
    parser.add_argument("--sides", choices=["both", "ours", "peer"], default="both", help="leave one side out")
    parser.add_argument("--folder", type=Path, default=machine.ROOT / ".bench", help="where the files lie: a real disk (.bench)")
    chosen = parser.parse_args()
    if chosen.only is None:
        chosen.only = ",".join(ON_REDIS if chosen.storage == "redis" else [name for name in SCENARIOS if name != "weight"])
    unknown = sorted(set(chosen.only.split(",")) - set(SCENARIOS))
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return chosen


def sizes(chosen: argparse.Namespace) -> Sizes:
    given = {name: getattr(chosen, name) for name in ("pairs", "tasks") if getattr(chosen, name)}
    return replace(QUICK if chosen.quick else Sizes(), **given)


def measure(chosen: argparse.Namespace, folder: Path, url: str) -> int:
    sides = [make(url) for name, make in (("peer", machine.peer), ("ours", machine.ours)) if chosen.sides in ("both", name)]
    bench = Bench(sizes(chosen), sides, folder, machine.fsync_ms(folder), url)
    print(f"machine  {machine.describe()}")
    rested = machine.fsync_ms(folder, 100, rest=0.013)
    print(f"disk     a 4 KiB write with fsync takes {bench.fsync_ms:.3f} ms (median of 200); {rested:.3f} ms after a rest of 13 ms")
    for side in sides:
        where = f"Redis {machine.ask(url, 'INFO', 'server').partition(b'redis_version:')[2].split()[0].decode()}" if url else ""
        print(f"{side.name:<8} huey {machine.introduce(side, folder)}, {where or 'SQLite, synchronous=FULL'}")
    print(f"pairs    {bench.sizes.pairs}, in turns {' '.join(side.name for side in sides)}; figures are medians\n", flush=True)
    rows: list[tuple[str, ...]] = []
    failures = []
    for name in chosen.only.split(","):
        begin = time.monotonic()
        try:
            rows += run(name, bench)
        except machine.Failed as error:
            failures.append(f"{name}: {error}")
        print(f"  {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(table.show(rows))
    for failure in failures:
        print(f"FAILED   {failure}")
    return 1 if failures else 0


def main() -> int:
    chosen = options()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    server = machine.redis_server(folder) if chosen.storage == "redis" else nullcontext("")
    try:
        with server as url:
            return measure(chosen, folder, url)
    except machine.Failed as error:
        print(f"FAILED   {error}")
        return 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    raise SystemExit(main())
