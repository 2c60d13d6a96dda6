"""How a consumer comes to its storage at its start: what is away may come back, so it waits; what will not mend itself ends it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Collection

from huey.exceptions import StorageFull, StorageUnavailable
from huey.runtime.clock import SECOND, Clock
from huey.runtime.logs import SafeLogger

log = SafeLogger("huey.consumer")

FIRST_GAP, LONGEST_GAP = 0.5, 5.0
"""Seconds between two tries; the wait doubles each time."""


def wait_for(storage: Callable[[], None], pause: Callable[[float], bool], clock: Clock) -> bool:
    """Call *storage*, which opens it, until it succeeds. False: *pause*, which waits so many seconds, says that the consumer is to stop.
    One line is logged when the wait begins and one when it is over. StorageRefused: waiting does not help."""
    since, gap = clock.monotonic(), FIRST_GAP
    is_told = False
    while True:
        try:
            storage()
        except (StorageUnavailable, StorageFull) as error:
            if not is_told:
                is_told = True
                log.error("the storage cannot be used yet; this consumer waits for it and tries again: %s", error)
        else:
            if is_told:
                log.info("the storage is there after %.1f s", (clock.monotonic() - since) / SECOND)
            return True
        if pause(gap):
            return False
        gap = min(2 * gap, LONGEST_GAP)


def rest(ear: int, seconds: float, heard: Collection[int]) -> bool:
    """Wait until a signal is written to *ear*, or so many seconds. Whether one of those *heard* asks to stop."""
    poll = select.poll()
    poll.register(ear, select.POLLIN)
    if poll.poll(max(0.0, seconds * 1000)):
        os.read(ear, 65536)
    return signal.SIGTERM in heard or signal.SIGINT in heard
