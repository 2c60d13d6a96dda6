"""The log file of the command: one file, any number of writers, 1 MB, three backups (C18)."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huey.cli import logs
from huey.cli.errors import UsageError
from huey.cli.logs import LogFile
from tests.support.helpers import SOURCE, bare_environment


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
    other = log._fd
    os.close(other)
    opened = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    if opened != other:
        os.dup2(opened, other)
        os.close(opened)
    try:
        say(log, "b")
        os.write(other, b"mine")
    finally:
        os.close(other)

    assert path.read_text("utf-8") == "a\nb\n"
    assert (tmp_path / "other").read_text("utf-8") == "mine"


def test_a_full_disk_is_told_once_and_the_console_has_the_log(
    log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(logs.os, "write", full)  # type: ignore[attr-defined]
        say(log, "a")
        say(log, "b")
    said = capsys.readouterr().err
    say(log, "c")

    told = f"huey_consumer: --logfile {path}: No space left on device; logging to the console until it can be written\n"
    assert said == told + "a\nb\n"
    assert path.read_text("utf-8") == "c\n"


def test_a_record_that_does_not_fit_its_format_ends_nothing(log: LogFile, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(log, "%d", "x")
    say(log, "%s", "y")

    assert "Logging error" in capsys.readouterr().err
    assert path.read_text("utf-8") == "y\n"


def test_text_that_is_no_utf_8_is_written_all_the_same(log: LogFile, path: Path) -> None:
    say(log, "\udcff")

    assert path.read_text("utf-8") == "\\udcff\n"


def test_a_stream_of_this_process_is_never_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as /dev/stdout in a container, which is a pipe."""
    monkeypatch.setattr(logs, "LOG_BYTES", 10)
    reader, writer = os.pipe()
    try:
        log = logs._log_file(f"/proc/self/fd/{writer}")
        say(log, "first line")
        say(log, "second line")
        log.close()
        assert os.read(reader, 100) == b"first line\nsecond line\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_the_log_may_go_to_dev_null() -> None:
    log = logs._log_file("/dev/null")
    say(log, "a")
    log.close()


# -- whose file it is ---------------------------------------------------------------------------------------------------------------------

STRANGER = 34567
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def refused(path: Path) -> str:
    with pytest.raises(UsageError, match=f"--logfile {path}: ") as caught:
        logs._log_file(str(path))
    return str(caught.value)


@by_root
def test_a_file_of_another_user_is_not_written(path: Path) -> None:
    path.write_text("his\n")
    os.chown(path, STRANGER, STRANGER)

    assert f"belongs to another user (uid {STRANGER})" in refused(path)
    assert path.read_text("utf-8") == "his\n"


def test_a_file_with_a_second_name_is_not_written(path: Path, tmp_path: Path) -> None:
    """Somebody may have linked it to a file that only we can write."""
    precious = tmp_path / "precious"
    precious.write_text("precious\n")
    os.link(precious, path)

    assert "second name" in refused(path)
    assert precious.read_text("utf-8") == "precious\n"


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")

    assert "symbolic link" in refused(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (os.mkdir, "a folder")])
def test_what_is_no_plain_file_is_refused_at_once(path: Path, make: Callable[[Path], None], kind: str) -> None:
    """A pipe that nobody reads would be waited for."""
    make(path)

    assert f"it is {kind}, not a plain file" in refused(path)


@by_root
def test_a_device_is_refused(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make devices")

    assert "it is a device" in refused(path)


@by_root
@pytest.mark.parametrize("above", [0, 1])
def test_a_file_in_a_folder_of_somebody_else_is_refused(tmp_path: Path, above: int) -> None:
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    os.chown([folder, folder.parent][above], STRANGER, STRANGER)

    assert "its directory" in refused(folder / "app.log")
    assert not (folder / "app.log").exists()


@pytest.mark.parametrize(("mode", "is_taken"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_a_folder_in_which_all_may_rename_is_refused(path: Path, mode: int, is_taken: bool) -> None:
    """The log's folder of some systems may be written by a group."""
    path.parent.chmod(mode)

    if is_taken:
        logs._log_file(str(path)).close()
    else:
        assert "is world-writable" in refused(path)


@by_root
def test_a_file_that_is_put_there_later_is_not_written_either(log: LogFile, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the log was moved away, say, and somebody was faster."""
    say(log, "a")
    path.rename(path.parent / "moved")
    path.touch()
    os.chown(path, STRANGER, STRANGER)

    say(log, "b")

    assert path.read_text("utf-8") == ""
    assert "belongs to another user" in capsys.readouterr().err
