"""The application of ``tests.crash`` as the consumer command imports it: ``huey_consumer tests.crash.commanded.huey``.

Its place is in the environment. Every process of the command notes its birth and its parent in the journal, so that a verdict knows who
died with whom.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

from tests.crash import app, lines
from tests.support.history import Journal

FOLDER = Path(os.environ["CHAOS_PLACE"])
_journal = Journal(FOLDER / "history.jsonl")


def _is_born() -> None:
    _journal.note("born", parent=str(os.getppid()))


# A segfault of a task must not fill the disk.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
app.keep_connections()
options = json.loads(os.environ.get("CHAOS_APP", "{}"))
tasks = app.make(FOLDER, **{"filename": os.environ.get("CHAOS_FILE"), **options})
huey = tasks.huey
_is_born()
os.register_at_fork(after_in_child=_is_born)
lines.watch(FOLDER, "supervisor")
