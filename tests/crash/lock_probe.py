"""Another process that wants to write: ``python -m tests.crash.lock_probe FILE``. At the end of its input it prints its waits as JSON.

A wait is made of looks at the lock, each some 0.2 ms after the one before. Only so much counts between two looks as the lock can be blamed
for: a machine that lets this process wait for a core must not look like a database that does.
"""

from __future__ import annotations

import json
import select
import sqlite3
import sys
import time

PAUSE = 0.0002
BLAME = 0.005
"""Seconds between two looks that count at most."""


def main(path: str) -> None:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    waits: list[float] = []
    while not select.select([sys.stdin], [], [], 0.003)[0]:
        waits.append(one_wait(connection))
    waits.sort()
    print(json.dumps({"count": len(waits), "worst": waits[-1], "p99": waits[int(len(waits) * 0.99)]}))


def one_wait(connection: sqlite3.Connection) -> float:
    """Seconds until the write lock was had."""
    waited, before = 0.0, time.monotonic()
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            now = time.monotonic()
            waited += min(now - before, BLAME)
            before = now
            time.sleep(PAUSE)
            continue
        connection.execute("ROLLBACK")
        return waited


if __name__ == "__main__":
    main(sys.argv[1])
