"""A deterministic simulator: the real engine, janitor, scheduler and ``decide`` in virtual time, with every kind of bad luck.

One seed is one history: up to six workers on one or two queues of a storage, a scripted body for each task, workflows, limits and rates,
and faults: workers die, in any call and in any task, stop for longer than their lease and come back, calls are lost before they were
applied and replies after, the clock is set, the storage is away. A ledger is told everything and objects. Then the faults end, and all
must end well.

    python -m tests.simulator --seeds 200 --steps 500      many histories; a line for each that breaks a property
    python -m tests.simulator --seed 17 --steps 500        one, told line by line

The same seed is the same history, byte for byte. Nothing runs in threads and nothing waits: a wait ends at once, time passes between steps.

    ledger.py       the properties I1 to I12; entry.py: what it knows of a task; limits.py: which tasks are blocked (I10)
    edges.py        I13 and I14, of tasks that wait for others
    workflows.py    pipelines, chords and flows
    node.py         one worker process, turned by hand; the wire between it and the storage
    world.py        a history: what happens, and when
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections import Counter
from collections.abc import Sequence

from tests.simulator.world import Simulation


def main(argv: Sequence[str] | None = None) -> int:
    """Live the histories that are asked for. 1 if one breaks a property."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Live histories with faults, in virtual time.")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=500, help="steps of each, before the faults end")
    parser.add_argument("--seed", type=int, help="only this one, told line by line")
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    seeds = range(args.first, args.first + args.seeds) if args.seed is None else [args.seed]
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    failed = 0
    for seed in seeds:
        history = Simulation(seed, args.steps).run()
        counts.update(history.counts)
        digest.update(history.digest.encode())
        if args.seed is not None:
            sys.stdout.write("\n".join(history.trace) + "\n")
        if history.violation is not None:
            failed += 1
            replay = f"python -m tests.simulator --seed {seed} --steps {args.steps}"
            sys.stdout.write(f"seed {seed}: {history.violation}\n    {replay}\n")
    for name, count in sorted(it for it in counts.items() if "." not in it[0]):
        sys.stdout.write(f"{count:8} {name}\n")
    sys.stdout.write(f"{len(seeds)} histories of {args.steps} steps, {failed} break a property; digest {digest.hexdigest()[:16]}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
