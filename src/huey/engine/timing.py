"""How long the engine waits, and for what."""

LINGER = 0.005
"""Seconds that a finish waits for further finishes while there is other work to start."""
MOMENT = 0.001
"""Seconds that an engine whose runners are all busy waits for one of them to end, before it listens for the next task."""
STUCK = 0.05
"""Seconds without progress after which waiting tasks go back to the queue."""
OUTAGE_GAP, LONGEST_OUTAGE_GAP = 0.5, 1.0
"""Seconds between two tries during an outage of the storage: at first, and after a while. Unwritten finishes are sent each time."""
LONGEST_REST = 1.0
"""Seconds that an idle engine waits at most before it checks again."""
CAREFUL = 10.0
"""Seconds after an at-most-once task was claimed in which nothing is claimed ahead of a free runner."""
REVOCATION_CHECK = 1.0
"""Seconds after which the engine turns while tasks run, even if there is nothing to write or claim: one of them may have been revoked."""
