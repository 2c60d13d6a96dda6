"""``--reload``: new code runs as soon as it is saved."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from huey.cli import reload
from huey.cli.errors import OptionError
from huey.cli.reload import Watcher, folders_of, snapshot
from tests.support.helpers import Project, wait_until

APP = """
@huey.task()
def word():
    return '{}'
"""


def asked(project: Project) -> object:
    return project.task("main.word")().get(blocking=True, timeout=10)


# -- files ------------------------------------------------------------------------------------------------------------------------------


def test_python_files_are_seen_and_nothing_else(tmp_path: Path) -> None:
    for name in (
        "a.py",
        "sub/b.py",
        "sub/data.txt",
        ".hidden/c.py",
        "__pycache__/d.py",
        "node_modules/e.py",
        "venv/pyvenv.cfg",
        "venv/lib/f.py",
        "lib/site-packages/g.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")

    assert set(snapshot([str(tmp_path)])) == {str(tmp_path / "a.py"), str(tmp_path / "sub/b.py")}


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "MAX_ENTRIES", 5)
    for number in range(6):
        (tmp_path / f"{number}.txt").touch()

    with pytest.raises(OptionError, match=f"more than 5 files below {tmp_path}"):
        snapshot([str(tmp_path)])


def test_the_folders_watched_are_those_of_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    (home / "inner").mkdir(parents=True)
    (other / "shop").mkdir(parents=True)
    (other / "shop" / "__init__.py").touch()
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONPATH", str(home / "inner"))

    assert folders_of("nope") == [str(home)]
    monkeypatch.syspath_prepend(str(other))
    assert folders_of("shop.tasks") == [str(home), str(other / "shop")]
    monkeypatch.setenv("PYTHONPATH", str(other))
    assert folders_of("shop.tasks") == [str(home), str(other)]


# -- the watcher ------------------------------------------------------------------------------------------------------------------------


def test_a_change_brings_new_code(project: Project) -> None:
    project.write(APP.format("old"))
    consumer = project.start("main.huey", "--reload", "-n")
    assert asked(project) == "old"

    project.write(APP.format("newer"))
    wait_until(lambda: "main.py changed" in consumer.log, told=lambda: consumer.log)

    wait_until(lambda: asked(project) == "newer", told=lambda: consumer.log)
    assert consumer.stop() == 0


def test_code_that_cannot_be_imported_waits_for_the_next_change(project: Project) -> None:
    project.write("syntax error\n")
    consumer = project.start("main.huey", "--reload")
    wait_until(lambda: "exited with code 1; it will be restarted when a .py file changes" in consumer.log, told=lambda: consumer.log)

    project.write(APP.format("well"))

    assert asked(project) == "well"
    assert consumer.stop() == 0


def test_a_change_that_breaks_the_code_leaves_the_old_one(project: Project) -> None:
    project.write(APP.format("old"))
    consumer = project.start("main.huey", "--reload", "-n")
    assert asked(project) == "old"

    project.write("syntax error\n")
    wait_until(lambda: "the new code does not start" in consumer.log, told=lambda: consumer.log)
    assert asked(project) == "old"
    project.write(APP.format("mended"))

    wait_until(lambda: asked(project) == "mended", told=lambda: consumer.log)
    assert consumer.stop() == 0


def test_a_wrong_option_ends_it(project: Project) -> None:
    project.write(APP.format("x"))

    for consumer in (project.start("main.huey", "--reload", "-w", "x"), project.start("main.huey", "--reload", "--queues", "a,b")):
        assert consumer.ended() == 2
    missing = project.start("--reload")
    assert missing.ended() == 1
    assert "import path" in missing.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_stops_both(project: Project, number: signal.Signals) -> None:
    """SIGHUP: the terminal was closed."""
    project.write(APP.format("x"))
    consumer = project.start("main.huey", HUEY_RELOAD="1")
    assert asked(project) == "x"

    assert consumer.stop(number) == 0

    assert "stopped" in consumer.log
    assert project.huey.storage.workers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_watcher_that_is_killed_takes_its_consumer_along(project: Project) -> None:
    project.write(APP.format("x"))
    consumer = project.start("main.huey", "--reload")
    assert asked(project) == "x"

    consumer.send(signal.SIGKILL)

    assert consumer.ended() == -signal.SIGKILL
    wait_until(lambda: project.huey.storage.workers() == [], told=lambda: consumer.log)


def test_a_child_that_does_not_know_sighup_yet_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that comes while the consumer starts."""
    code = f"""
import os, pathlib, signal
runs = pathlib.Path({str(tmp_path)!r}) / "runs"
runs.open("a").write("x")
if len(runs.read_text()) == 1:
    os.kill(os.getpid(), signal.SIGHUP)
    signal.pause()
"""
    monkeypatch.setattr(reload, "SCAN_INTERVAL_S", 0.05)

    assert Watcher([sys.executable, "-c", code], [str(tmp_path)]).run() == 0

    assert (tmp_path / "runs").read_text() == "xx"


def test_the_keyboard_interrupts_only_once(tmp_path: Path) -> None:
    """Ctrl+C goes to the watcher and its child alike; a second signal from the watcher would mean "at once"."""
    code = f"""
import os, pathlib, signal, sys
sys.path[:0] = {[str(Path(reload.__file__).parents[2])]!r}
from huey.cli.reload import Watcher
child = '''
import signal, threading
count = 0
def heard(*_):
    global count
    count += 1
    print("heard", count, flush=True)
signal.signal(signal.SIGINT, heard)
print("ready", flush=True)
pause = threading.Event()
while not count:
    pause.wait(0.01)
pause.wait(0.3)
'''
sys.exit(Watcher([sys.executable, "-c", child], [{str(tmp_path)!r}]).run())
"""
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""

    def read_on() -> bytes:
        nonlocal said
        try:
            said += os.read(terminal, 1000)
        except OSError:
            # The other side was closed.
            said += b"(end)"
        return said

    try:
        wait_until(lambda: b"ready" in read_on(), told=lambda: said)
        os.write(terminal, b"\x03")
        wait_until(lambda: b"(end)" in read_on(), told=lambda: said)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
    assert said.count(b"heard") == 1
