"""A kill at every SQL statement of a small life (T2): from the empty file over enqueue, claim, finish, retry, tick and takeover to the goodbye.

SQLite tells of each statement as it begins, those inside a trigger too. For every n, one process lives that life and dies at its n-th
statement, another one takes over and ends what is left; then the history must obey the laws.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.crash.tools import ROOT


@pytest.mark.timeout(60)
def test_a_kill_at_any_statement_loses_nothing(tmp_path, show):
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.small_life", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    show(f"{told['kills']} statements, a kill at each: {len(told['problems'])} problems")
    assert told["problems"] == []
    assert told["kills"] > 50
