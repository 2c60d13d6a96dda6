"""A kill at every SQL statement of a small life: empty file, enqueue, claim, finish, retry, tick, takeover, goodbye.

SQLite tells of each statement as it begins, those inside a trigger too. For every n, one process lives that life and dies at its n-th
statement, another one takes over and ends what is left; then the history must obey the laws.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.tools import ROOT


@pytest.mark.parametrize("stride", [8, pytest.param(1, marks=pytest.mark.chaos)])
@pytest.mark.timeout(610)
def test_a_kill_at_any_statement_loses_nothing(tmp_path: Path, show: Any, stride: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.small_life", str(tmp_path), str(stride)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    show(f"a kill at {told['kills']} statements: {len(told['problems'])} problems")
    assert told["problems"] == []
    assert told["kills"] > 30
