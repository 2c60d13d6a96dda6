"""The command: live many histories, or one."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections import Counter
from collections.abc import Sequence

from huey.testing.simulator.world import Simulation


def main(argv: Sequence[str] | None = None) -> int:
    """Live the histories that are asked for. 1 if one breaks a property."""
    parser = argparse.ArgumentParser(prog="python -m huey.testing.simulator", description="Live histories with faults, in virtual time.")
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
            replay = f"python -m huey.testing.simulator --seed {seed} --steps {args.steps}"
            sys.stdout.write(f"seed {seed}: {history.violation}\n    {replay}\n")
    for name, count in sorted(it for it in counts.items() if "." not in it[0]):
        sys.stdout.write(f"{count:8} {name}\n")
    sys.stdout.write(f"{len(seeds)} histories of {args.steps} steps, {failed} break a property; digest {digest.hexdigest()[:16]}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
