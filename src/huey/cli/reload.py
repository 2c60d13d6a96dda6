"""``--reload``, for development: restarts the consumer as soon as a file is saved.

This process only watches files; the consumer is its child, with the same command line. After a change the child gets SIGHUP and restarts
its workers. If the child has exited because the code could not be imported, it is started again at the next change.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from huey.cli.errors import OptionError
from huey.consumer.command import hidden_environment
from huey.consumer.signal_handling import catch_signals, wait_for_signal
from huey.runtime.logs import escaped_lines

IS_WATCHED = "HUEY_IS_WATCHED"
"""Environment variable: this process is the child and need not watch."""
SCAN_INTERVAL_S = 1.0
SETTLE_TIME_S = 0.1
"""How long no further change may occur before the files count as saved."""
MAX_ENTRIES = 50_000
"""Most files and folders to check every second."""
_INSTALLED = ("__pycache__", "node_modules", "site-packages")

Snapshot = dict[str, tuple[int, int]]
"""By path of each .py file: modification time and size."""


def is_watched() -> bool:
    """Return True if this process is the child of a watcher."""
    if IS_WATCHED in os.environ:
        hidden_environment[IS_WATCHED] = os.environ.pop(IS_WATCHED)
    return IS_WATCHED in hidden_environment


def watch_over(module: str, arguments: Sequence[str]) -> int:
    """Run the command with these arguments as a child until asked to stop, and return its exit code."""
    command = [sys.executable, "-m", "huey.cli.consumer", *arguments]
    return Watcher(command, folders_of(module)).run()


# -- files ------------------------------------------------------------------------------------------------------------------------------


def folders_of(module: str) -> list[str]:
    """Return where the application may be: the current folder, PYTHONPATH, and the folder of the module's package; none inside another."""
    given = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *_home(module.partition(".")[0])]
    folders = sorted({os.path.realpath(folder) for folder in given})
    return [folder for folder in folders if not any(Path(folder).is_relative_to(other) for other in folders if other != folder)]


def _home(package: str) -> list[str]:
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    finally:
        del sys.path[0]
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return list(spec.submodule_search_locations)
    folder = os.path.dirname(spec.origin or "")
    return [folder] if folder and os.path.basename(folder) != "site-packages" else []


def snapshot(folders: Iterable[str]) -> Snapshot:
    """Return all .py files below *folders*, except in hidden folders and installed packages (virtual environments, site-packages,
    node_modules). Raise OptionError if they are too many to check every second."""
    found: Snapshot = {}
    checked = 0
    for path, inner, files in (each for folder in folders for each in os.walk(folder)):
        if "pyvenv.cfg" in files:
            inner.clear()
            continue
        inner[:] = [name for name in inner if not name.startswith(".") and name not in _INSTALLED]
        checked += len(inner) + len(files)
        if checked > MAX_ENTRIES:
            raise OptionError(
                f"--reload: more than {MAX_ENTRIES} files below {', '.join(folders)}; start the consumer in the folder of your application"
            )
        for name in files:
            if name.endswith(".py") and not name.startswith("."):
                # It may have been removed meanwhile.
                with suppress(OSError):
                    facts = os.stat(os.path.join(path, name))
                    found[os.path.join(path, name)] = (facts.st_mtime_ns, facts.st_size)
    return found


# -- the watcher ------------------------------------------------------------------------------------------------------------------------


class Watcher:
    """A watcher that runs *command* as a child and sends it SIGHUP when a file in *folders* changes."""

    def __init__(self, command: Sequence[str], folders: Sequence[str]) -> None:
        self._command = command
        self._folders = folders
        self._child: subprocess.Popen[bytes] | None = None
        self._is_asked = False
        self._signals: deque[int] = deque()

    def run(self) -> int:
        """Run until the child stops as asked, or cannot start because of an invalid option, and return its exit code."""
        with catch_signals(self._on_signal) as read_fd:
            seen = snapshot(self._folders)
            self._start()
            try:
                while (code := self._check_child()) is None:
                    wait_for_signal(read_fd, SCAN_INTERVAL_S)
                    seen = self._restart_if_changed(seen, read_fd)
                return code
            finally:
                if self._child is not None and self._child.poll() is None:
                    self._child.terminate()
                    self._child.wait()

    def _start(self) -> None:
        self._child = subprocess.Popen(self._command, env={**os.environ, IS_WATCHED: "1"}, preexec_fn=_bound_to_parent())

    def _check_child(self) -> int | None:
        """Forward pending signals and return the exit code if the child has exited for good."""
        while self._signals:
            self._forward(self._signals.popleft())
        if self._child is None:
            return 0 if self._is_asked else None
        code = self._child.poll()
        if code is None:
            return None
        if self._is_asked or code in (0, 2):
            return code if code >= 0 else 128 - code
        if code == -signal.SIGHUP:
            # It had not installed its handler for the signal yet.
            self._start()
            return None
        self._child = None
        _say(f"the consumer exited with code {code}; it will be restarted when a .py file changes")
        return None

    def _forward(self, number: int) -> None:
        # Ctrl+C sends SIGINT to the child as well; forwarded, it would be the second one, which means "at once".
        has_got_it = number == signal.SIGINT and not self._is_asked and _is_in_foreground()
        self._is_asked = True
        if self._child is not None and not has_got_it:
            self._child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def _restart_if_changed(self, seen: Snapshot, read_fd: int) -> Snapshot:
        now = snapshot(self._folders)
        if now == seen or self._is_asked:
            return seen
        while True:
            wait_for_signal(read_fd, SETTLE_TIME_S)
            before, now = now, snapshot(self._folders)
            if before == now:
                break
        changed = sorted(path for path in seen.keys() | now.keys() if seen.get(path) != now.get(path))
        _say(f"{os.path.relpath(changed[0]) if changed else 'a file'} changed")
        if self._child is None:
            self._start()
        else:
            self._child.send_signal(signal.SIGHUP)
        return now

    def _on_signal(self, number: int, frame: object) -> None:
        """Record a signal that asks for a stop, including SIGHUP, which means that the terminal is gone."""
        if number != signal.SIGCHLD:
            self._signals.append(number)


def _is_in_foreground() -> bool:
    """Return True if keys pressed in the terminal reach this process and its child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _bound_to_parent() -> Callable[[], object] | None:
    """Return the function that the child calls before it becomes the consumer: however the watcher dies, the child gets SIGTERM (Linux)."""
    if sys.platform != "linux":
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_parent_death_signal, int(signal.SIGTERM))


def _say(text: str) -> None:
    print(escaped_lines(f"huey_consumer --reload: {text}"), file=sys.stderr, flush=True)
