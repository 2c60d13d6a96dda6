"""The log file of the command: one file, any number of writers, 1 MB, three backups (C18)."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from huey.cli import logs
from huey.cli.logs import LogFile
from tests.helpers import SOURCE, bare_environment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def log(path: Path) -> Iterator[LogFile]:
    log = LogFile(str(path))
    yield log
    log.close()


def say(log: LogFile, text: str, *arguments: object) -> None:
    log.handle(logging.LogRecord("huey", logging.INFO, "", 0, text, arguments, None))


def test_the_file_is_for_its_owner_only(log: LogFile, path: Path) -> None:
    say(log, "a")

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text("utf-8") == "a\n"


def test_a_file_that_is_there_is_continued(path: Path) -> None:
    path.write_text("before\n")
    path.chmod(0o640)

    log = LogFile(str(path))
    say(log, "after")
    log.close()

    assert path.read_text("utf-8") == "before\nafter\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_file_is_turned_over_and_three_are_kept(log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 100)

    for number in range(10):
        say(log, f"{number} " + "x" * 57)

    assert {file.name: file.read_text("utf-8")[0] for file in path.parent.iterdir()} == {
        "app.log": "9",
        "app.log.1": "8",
        "app.log.2": "7",
        "app.log.3": "6",
    }


def test_a_line_longer_than_a_file_gets_one_of_its_own(log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 100)

    say(log, "a")
    say(log, "x" * 500)
    say(log, "b")

    assert path.read_text("utf-8") == "b\n"
    assert (path.parent / "app.log.1").stat().st_size == 501
    assert (path.parent / "app.log.2").read_text("utf-8") == "a\n"


def test_a_file_that_was_moved_away_is_left(log: LogFile, path: Path) -> None:
    """What logrotate does."""
    say(log, "a")
    path.rename(path.parent / "moved")
    say(log, "b")
    path.unlink()
    say(log, "c")

    assert (path.parent / "moved").read_text("utf-8") == "a\n"
    assert path.read_text("utf-8") == "c\n"


WRITER = """
import logging, os, sys
from huey.cli import logs
logs.LOG_BYTES = 20_000
log = logs.LogFile(sys.argv[1])
children = [os.fork() for _ in range(2)]
who = len([pid for pid in children if pid])
for number in range(60):
    log.handle(logging.LogRecord("huey", 20, "", 0, f"{sys.argv[2]} {who} {number} {'x' * 80}", (), None))
for pid in children:
    if pid:
        os.waitpid(pid, 0)
"""


def test_processes_turn_one_file_over_and_lose_no_line(path: Path) -> None:
    """Two programs, and what each forks: 8 writers, 480 lines of about 90 bytes, a new file each 20 kB, so the last four hold them all."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], env={**bare_environment(), "PYTHONPATH": str(SOURCE)})
        for name in "ab"
    ]
    assert [writer.wait(20) for writer in writers] == [0, 0]

    files = sorted(path.parent.iterdir())
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    # Forked twice in a row, there are four processes, and two of them count one child.
    expected = {
        (name, who, number) for name in "ab" for who, times in ((0, 1), (1, 2), (2, 1)) for number in range(60) for _ in range(times)
    }
    assert {(name, int(who), int(number)) for name, who, number, _ in (line.split(" ") for line in lines)} == expected
    assert len(lines) == 8 * 60
    assert 2 <= len(files) <= 4


def test_a_descriptor_that_a_task_closed_is_not_written_to(log: LogFile, path: Path, tmp_path: Path) -> None:
    """By then it may be another file of the same number: a database, say."""
    say(log, "a")
    os.close(log._fd)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    try:
        assert other == log._fd
        say(log, "b")
        os.write(other, b"mine")
    finally:
        os.close(other)

    assert path.read_text("utf-8") == "a\nb\n"
    assert (tmp_path / "other").read_text("utf-8") == "mine"


def test_a_full_disk_is_told_once(log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(logs.os, "write", full)
        say(log, "a")
        say(log, "b")
    said = capsys.readouterr().err
    say(log, "c")

    assert said == f"huey_consumer: --logfile {path}: No space left on device; until that ends only the console has the log\n"
    assert path.read_text("utf-8") == "c\n"


def test_a_record_that_does_not_fit_its_format_ends_nothing(log: LogFile, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(log, "%d", "x")
    say(log, "%s", "y")

    assert "Logging error" in capsys.readouterr().err
    assert path.read_text("utf-8") == "y\n"


def test_text_that_is_no_utf_8_is_written_all_the_same(log: LogFile, path: Path) -> None:
    say(log, "\udcff")

    assert path.read_text("utf-8") == "\\udcff\n"


def test_a_pipe_is_written_and_never_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as /dev/stdout in a container."""
    monkeypatch.setattr(logs, "LOG_BYTES", 10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log = LogFile(str(pipe))
        say(log, "first line")
        say(log, "second line")
        log.close()
        assert os.read(reader, 100) == b"first line\nsecond line\n"
    finally:
        os.close(reader)
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]
