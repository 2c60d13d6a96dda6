"""A kill at a line of the package: armed from outside, in a page that all processes of a place share.

    CHAOS_LINES=kill      a process kills itself when it comes to the line that the page names, once per target
    CHAOS_LINES=record    each process writes the lines that it comes to into ``lines.txt``, each once

The product knows nothing of this: it is a trace function of Python, set by the application under test.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import huey
from tests.support.history import Journal

PACKAGE = str(Path(huey.__file__).parent) + os.sep
UNWATCHED = PACKAGE + "testing" + os.sep
SIZE = 4096


def watch(folder: Path, role: str) -> None:
    """Watch the lines of this process from here on, and those of its children, if the environment asks for it."""
    wish = os.environ.get("CHAOS_LINES")
    if wish not in ("kill", "record"):
        return
    look = (_Killer if wish == "kill" else _Recorder)(folder, role)
    _trace_with(look)
    os.register_at_fork(after_in_child=look.becomes_worker)


Look = Callable[[str, int], None]


def _trace_with(look: Look) -> None:
    def local(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            look(frame.f_code.co_filename, frame.f_lineno)
        return local

    def begin(frame: FrameType, event: str, arg: Any) -> Any:
        path = frame.f_code.co_filename
        return local if path.startswith(PACKAGE) and not path.startswith(UNWATCHED) else None

    # What called us is of the package too: the command, on its way to import the application.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        frame.f_trace = begin(frame, "call", None)
        frame = frame.f_back
    threading.settrace(begin)
    sys.settrace(begin)


class _Recorder:
    def __init__(self, folder: Path, role: str) -> None:
        self._fd = os.open(folder / "lines.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._role = role
        self._seen: set[tuple[str, int]] = set()

    def becomes_worker(self) -> None:
        self._role = "worker"
        self._seen = set()

    def __call__(self, path: str, line: int) -> None:
        if (path, line) not in self._seen:
            self._seen.add((path, line))
            os.write(self._fd, f"{self._role} {path.removeprefix(PACKAGE)}:{line}\n".encode())


class _Killer:
    def __init__(self, folder: Path, role: str) -> None:
        self._folder = folder
        self._role = role
        self._journal = Journal(folder / "history.jsonl")
        self._page = Target(folder).page
        self._number = b""
        self._wanted: tuple[str, int] | None = None

    def becomes_worker(self) -> None:
        self._role = "worker"
        self._number = b""

    def __call__(self, path: str, line: int) -> None:
        if self._page[:4] != self._number:
            self._read()
        if self._wanted == (path, line) and self._is_first():
            self._journal.note("killed by line")
            os.kill(os.getpid(), signal.SIGKILL)

    def _read(self) -> None:
        text = self._page[:].rstrip(b"\0").decode()
        self._number = self._page[:4]
        _, role, place = [*text.split(" "), "", ""][:3]
        path, _, line = place.rpartition(":")
        self._wanted = (PACKAGE + path, int(line)) if role == self._role else None

    def _is_first(self) -> bool:
        """One kill for each target: what is started in place of the dead must live."""
        try:
            os.close(os.open(self._folder / f"hit-{self._number.decode()}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            self._wanted = None
            return False
        (self._folder / f"hit-{self._number.decode()}").write_text(str(os.getpid()), "ascii")
        return True


class Target:
    """The page, and who writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with open(folder / "target", "a+b") as file:
            file.truncate(SIZE)
            self.page = mmap.mmap(file.fileno(), SIZE)

    def arm(self, number: int, role: str, place: str) -> None:
        """From now on the first process of *role* that comes to *place* dies. Role ``nobody``: none does."""
        text = f"{number:04d} {role} {place}".encode().ljust(SIZE, b"\0")
        # The number last: who sees it sees the rest.
        self.page[4:] = text[4:]
        self.page[:4] = text[:4]

    def victim(self, number: int) -> str:
        """The pid that died at that target; empty when none has."""
        try:
            return (self._folder / f"hit-{number:04d}").read_text("ascii")
        except FileNotFoundError:
            return ""
