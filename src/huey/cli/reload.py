"""``--reload``, for development: new code runs as soon as its file is saved.

This process only watches; the consumer is its child, the same command. After a change the child gets SIGHUP, on which it starts its workers
anew; if it ended instead, because the code cannot be imported, it is started again at the next change.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from huey.cli.errors import OptionError
from huey.consumer.command import hidden_environment
from huey.runtime.logs import escaped_lines
from huey.runtime.waker import Waker

IS_WATCHED = "HUEY_IS_WATCHED"
"""Environment variable that tells the child that it need not watch."""
EVERY = 1.0
"""Seconds between two looks at the files."""
QUIET = 0.1
"""Seconds without a further change after which the files are taken as saved."""
MAX_ENTRIES = 50_000
"""Files and folders that are looked at each second at most."""

Snapshot = dict[str, tuple[int, int]]
"""Path of each .py file: when it was written, and its size."""


def is_watched() -> bool:
    """This process is the child that a watcher started."""
    if IS_WATCHED in os.environ:
        hidden_environment[IS_WATCHED] = os.environ.pop(IS_WATCHED)
    return IS_WATCHED in hidden_environment


def watch_over(module: str, arguments: Sequence[str]) -> int:
    """Run the command with these arguments as a child until it is asked to stop: its exit code."""
    command = [sys.executable, "-m", "huey.cli.consumer", *arguments]
    return Watcher(command, folders_of(module)).run()


# -- files ------------------------------------------------------------------------------------------------------------------------------


def folders_of(module: str) -> list[str]:
    """Where the application may be: the current folder, PYTHONPATH, and the folder of the module's package; none inside another."""
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
    """All .py files below, but for hidden folders and what is installed there (virtual environments, site-packages, node_modules).
    OptionError: too many to look at each second."""
    found: Snapshot = {}
    left, looked = list(folders), 0
    while left:
        entries = _entries(left.pop())
        looked += len(entries)
        if looked > MAX_ENTRIES:
            raise OptionError(
                f"--reload: there are more than {MAX_ENTRIES} files below {', '.join(folders)}; start it in the folder of your application"
            )
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.name.endswith(".py"):
                    facts = entry.stat()
                    found[entry.path] = (facts.st_mtime_ns, facts.st_size)
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            entries = [
                entry
                for entry in scan
                if not entry.name.startswith(".") and entry.name not in ("__pycache__", "node_modules", "site-packages")
            ]
    except OSError:
        # It went meanwhile, or is not for us to read.
        return []
    return [] if any(entry.name == "pyvenv.cfg" for entry in entries) else entries


# -- the watcher ------------------------------------------------------------------------------------------------------------------------


class Watcher:
    """Runs *command* as a child and sends it SIGHUP when a file in *folders* changes."""

    def __init__(self, command: Sequence[str], folders: Sequence[str]) -> None:
        self._command = command
        self._folders = folders
        self._child: subprocess.Popen[bytes] | None = None
        self._is_asked = False
        self._signals: deque[int] = deque()
        self._waker = Waker()

    def run(self) -> int:
        """Until the child stops as asked, or cannot start for a wrong option: its exit code."""
        with self._hearing():
            seen = snapshot(self._folders)
            self._start()
            try:
                while (code := self._look()) is None:
                    self._waker.wait(EVERY)
                    self._waker.clear()
                    seen = self._renew_if_changed(seen)
                return code
            finally:
                if self._child is not None and self._child.poll() is None:
                    self._child.terminate()
                    self._child.wait()

    def _start(self) -> None:
        self._child = subprocess.Popen(self._command, env={**os.environ, IS_WATCHED: "1"}, preexec_fn=_bound_to_parent())

    def _look(self) -> int | None:
        """Hand on the signals that came, and see whether the child has ended: the exit code when all is over."""
        while self._signals:
            self._hand_on(self._signals.popleft())
        if self._child is None:
            return 0 if self._is_asked else None
        code = self._child.poll()
        if code is None:
            return None
        if self._is_asked or code in (0, 2):
            return code if code >= 0 else 128 - code
        if code == -signal.SIGHUP:
            # It had not yet come so far as to take the signal for what it is.
            self._start()
            return None
        self._child = None
        _say(f"the consumer ended with code {code}; it is started again when a .py file changes")
        return None

    def _hand_on(self, number: int) -> None:
        # The keyboard's SIGINT goes to the child too, by itself; handed on, it would be the second one, which means "at once".
        is_told = number == signal.SIGINT and not self._is_asked and _is_in_foreground()
        self._is_asked = True
        if self._child is not None and not is_told:
            self._child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def _renew_if_changed(self, seen: Snapshot) -> Snapshot:
        now = snapshot(self._folders)
        if now == seen or self._is_asked:
            return seen
        while True:
            self._waker.wait(QUIET)
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

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Signals wake it; SIGHUP is the end of the terminal, and of this."""

        def heard(number: int, frame: object) -> None:
            if number != signal.SIGCHLD:
                self._signals.append(number)
            self._waker.wake()

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        before = {number: signal.signal(number, heard) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._waker.close()


def _is_in_foreground() -> bool:
    """Whether a key pressed in the terminal reaches this process and its child."""
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
    """To be called in the child before it becomes the consumer: the end of the watcher, however it comes, is a SIGTERM for it (Linux)."""
    if sys.platform != "linux":
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_parent_death_signal, int(signal.SIGTERM))


def _say(text: str) -> None:
    print(escaped_lines(f"huey_consumer --reload: {text}"), file=sys.stderr, flush=True)
