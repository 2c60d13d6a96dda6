"""Two consumers that do not see each other, as on two hosts: one is cut off from the server for longer than its lease (C4, C15)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.tools import ROOT
from tests.support import history
from tests.support.helpers import PATIENCE, wait_until
from tests.support.lossy_proxy import LossyProxy
from tests.support.mortals import mortal
from tests.support.redis_server import Server

HOST = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
"""Begins a process that lives alone in its process space, as on a machine of its own."""
FAR = "1"
"""Its pid there."""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Any]:
    """Starts a consumer on another host, whose way to the server is a proxy; it ends with the test."""
    if shutil.which("unshare") is None or subprocess.run([*HOST, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a process space")
    started = []

    def start(place: Any, proxy: Any) -> Any:
        options = {"workers": 3, "periodic": False, "app": {"url": f"redis://127.0.0.1:{proxy.port}/0"}}
        words = [*HOST, sys.executable, "-m", "tests.crash.app", "consumer", str(place.folder), json.dumps(options)]
        with open(tmp_path / "far.log", "wb") as log:
            started.append(mortal(subprocess.Popen(words, cwd=ROOT, env=os.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)))
        return lambda: (tmp_path / "far.log").read_text("utf-8", "replace")

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_host_that_is_cut_off_writes_nothing_late(make_place: Any, far: Any, show: Any) -> None:
    with Server() as server, LossyProxy(server.port, loss=0) as proxy:
        place = make_place(url=server.url)
        ids = [place.gated(n) for n in range(3)]
        log = far(place, proxy)
        wait_until(lambda: all(place.started(id) for id in ids), "they run over there")
        proxy.cut()
        heir = place.start(workers=3, periodic=False)

        wait_until(lambda: all(len(place.started(id)) == 2 for id in ids), "the heir runs them again", timeout=40)
        place.open_gate()
        wait_until(place.is_done, "the heir has written their ends")
        results = [place.app.huey.result(id) for id in ids]
        assert heir.stop() == 0
        proxy.mend()

        wait_until(lambda: "finishes were stale" in log(), "its late finishes are refused")
        place.bulk(range(100, 120))
        wait_until(place.is_done, "the one that came back works on")
        assert results == [0, 1, 4]
        assert not set(place.storage.items("result")) & set(ids), "what was fetched is not written again"
        assert [{run.node for run in place.started(id)} for id in ids] == [{FAR, heir.node}] * 3
        # A result can be seen before the line of who wrote it.
        wait_until(lambda: history.check(history.read(place.journal), paused={FAR}) == [], "the history breaks no law")
        show("3 tasks ran on both hosts, 3 late finishes refused")
