"""The machine and the two sides: what they are, and how a child process of either is run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-peer"
CHILD = ROOT / "bench" / "child.py"
TIME_LIMIT = 400.0


class Failed(Exception):
    """A scenario did not run as it must."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: the product from src/, or the peer in its own environment. Each run has a fresh file."""

    name: str
    python: str
    url: str = ""
    """Of a Redis server; without it the queue is a SQLite file."""

    def environment(self, file: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HUEY_"))}
        path = {"PYTHONPATH": str(ROOT / "src")} if self.name == "ours" else {}
        server = {"BENCH_URL": self.url} if self.url else {}
        return kept | path | server | {"BENCH_SIDE": self.name, "BENCH_FILE": str(file)}

    def run(self, file: Path, command: str, /, **options: Any) -> dict[str, Any]:
        """Run one command of child.py to its end; its answer."""
        words = [self.python, str(CHILD), command, json.dumps(options)]
        try:
            done = subprocess.run(words, env=self.environment(file), capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name}: {command} took more than {TIME_LIMIT:.0f} s") from None
        if done.returncode:
            raise Failed(f"{self.name}: {command}: {last_line(done.stderr)}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    @contextmanager
    def command(self, file: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
        """The consumer command, as users start it, while the block runs."""
        environment = self.environment(file)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(CHILD.parent)]))
        script = Path(self.python).parent / "huey_consumer"
        start = ["-m", "huey.cli.consumer"] if self.name == "ours" else [str(script)]
        words = [self.python, *start, "apps.huey", "-w", str(workers)]
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(words, env=environment, stdout=said, stderr=said, text=True)
            try:
                yield child
                if child.poll() is not None:
                    said.seek(0)
                    raise Failed(f"{self.name}: the command ended early: {last_line(said.read())}")
            finally:
                stop(child)

    @contextmanager
    def consumer(self, file: Path, workers: int) -> Iterator[None]:
        """A consumer in a process of its own while the block runs."""
        words = [self.python, str(CHILD), "consume", json.dumps({"workers": workers})]
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(words, env=self.environment(file), stdout=subprocess.DEVNULL, stderr=said)
            try:
                yield
            except Failed as error:
                said.seek(0)
                how = "ended early" if child.poll() is not None else "still runs"
                raise Failed(f"{error}; its consumer {how} and said: {last_line(said.read())}") from None
            else:
                if child.poll() is not None:
                    said.seek(0)
                    raise Failed(f"{self.name}: the consumer ended early: {last_line(said.read())}")
            finally:
                stop(child)

    def import_time(self, statement: str) -> float:
        """Milliseconds that an import statement takes in a fresh interpreter."""
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        done = subprocess.run([self.python, "-c", code], env=self.environment(Path()), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{self.name}: {statement}: {last_line(done.stderr)}")
        return float(done.stdout) * 1000


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def stop(child: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
            found += family(int(child))
    return found


def core_seconds(pids: list[int]) -> float:
    """Time that these processes have had a core."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pids: list[int]) -> float:
    """Their memory together; a page that they share counts once (PSS)."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def ours(url: str = "") -> Side:
    """This tree. In Redis it needs redis-py, which `make setup` puts beside it."""
    neighbour = ROOT / ".venv" / "bin" / "python"
    return Side("ours", str(neighbour) if url and neighbour.exists() else sys.executable, url)


def peer(url: str = "") -> Side:
    """huey's newest release in .venv-peer, installed at the first run. Remove the folder to look for a newer one."""
    python = PEER / "bin" / "python"
    ready = PEER / ".ready-with-redis"
    if not ready.exists():
        print("setting up .venv-peer with huey's newest release", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "huey", "redis", "hiredis"], check=True
        )
        ready.touch()
    return Side("peer", str(python), url)


def introduce(side: Side, folder: Path) -> str:
    """The version of a side, after a look that it is the one meant."""
    told = side.run(folder / f"who-{side.name}.db", "who")
    is_ours = Path(told["file"]).is_relative_to(ROOT / "src")
    if is_ours != (side.name == "ours"):
        raise Failed(f"{side.name}: import huey found {told['file']}")
    return str(told["version"])


def describe() -> str:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


def fsync_ms(folder: Path, times: int = 200, rest: float = 0.0) -> float:
    """Median milliseconds of a 4 KiB write with fsync, *rest* seconds after the one before."""
    took = []
    path = folder / "fsync"
    with path.open("wb") as file:
        for _ in range(times):
            time.sleep(rest)
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begin)
    path.unlink()
    return statistics.median(took) * 1000


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A private Redis server on a free port, nothing on its disk; its URL."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise Failed("no redis-server on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stop_at = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > stop_at or child.poll() is not None:
                    raise Failed("redis-server does not start") from None
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        child.terminate()
        child.wait()


def ask(url: str, *words: str) -> bytes:
    """Send one command to a Redis server; the first bytes of its answer."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return connection.recv(65536)
