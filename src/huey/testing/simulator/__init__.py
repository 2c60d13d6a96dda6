"""A deterministic simulator: the real engine, janitor, scheduler and ``decide`` in virtual time, with every kind of bad luck.

One seed is one history: up to five workers and three producers on one storage, a scripted body for each task, and faults: workers die, in
any call and in any task, stop for longer than their lease and come back, calls are lost before they were applied and replies after, the
clock is set, the storage is away. A ledger is told everything and objects. Then the faults end, and all must end well.

    python -m huey.testing.simulator --seeds 200 --steps 500      many histories; a line for each that breaks a property
    python -m huey.testing.simulator --seed 17 --steps 500        one, told line by line

The same seed is the same history, byte for byte. Nothing runs in threads and nothing waits: a wait ends at once, time passes between steps.

    ledger.py    the properties I1 to I12
    node.py      one worker process, turned by hand; the wire between it and the storage
    world.py     a history: what happens, and when
"""

from __future__ import annotations

from huey.testing.simulator.ledger import Violation
from huey.testing.simulator.world import Simulation

__all__ = ["Simulation", "Violation"]
