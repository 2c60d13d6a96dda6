"""A test run that is killed leaves no server and no consumer behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from huey.runtime import host
from tests.crash.tools import ROOT
from tests.support.helpers import wait_until

RUN = """
import subprocess, sys, threading
from tests.support.mortals import mortal

sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
started = []
# In a thread that ends: it is the process that counts.
thread = threading.Thread(target=lambda: started.extend(mortal(subprocess.Popen(sleeper, start_new_session=True)) for _ in range(2)))
thread.start()
thread.join()
print(*(process.pid for process in started), flush=True)
input()
"""


def test_what_a_killed_test_run_has_started_dies_with_it() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    assert run.stdin is not None
    pids = [int(pid) for pid in run.stdout.readline().split()]
    assert len(pids) == 2
    assert all(host.process_start_time(pid) is not None for pid in pids)

    run.send_signal(signal.SIGKILL)
    run.wait()

    wait_until(lambda: all(host.process_start_time(pid) is None for pid in pids))
    run.stdout.close()
    run.stdin.close()
