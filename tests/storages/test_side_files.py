"""What lies beside a SQLite file is believed only if nobody else can have put it there."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from huey import SqliteHuey
from huey.backends.sqlite_backend import SqliteQueue
from huey.exceptions import StorageRefused, StorageUnavailable
from huey.runtime import files
from huey.runtime.files import BY_SQLITE, BY_US, Replaced, check_neighbours, unchanged_neighbours
from huey.storage.sqlite import connection
from tests.support.helpers import SOURCE, bare_environment

STRANGER = 34567
BESIDE = BY_SQLITE + BY_US
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def a_queue_in(folder: Path) -> Path:
    """A queue's file that nobody has open, with one task in it."""
    huey = SqliteHuey("q", filename=folder / "huey.db")
    huey.task(name="t")(print)()
    huey.close()
    return folder / "huey.db"


def a_log_of(path: Path, folder: Path) -> bytes:
    """The log of another queue, with a task of its own in it."""
    folder.mkdir()
    code = "import os, sys; from huey import SqliteHuey; SqliteHuey('q', filename=sys.argv[1]).task(name='planted')(print)(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, folder / "mine.db"], check=True, env={**bare_environment(), "PYTHONPATH": str(SOURCE)})
    return (folder / "mine.db-wal").read_bytes()


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(StorageRefused) as caught:
        SqliteHuey("q", filename=path, **options).storage.open()
    return str(caught.value)


# -- what is planted ---------------------------------------------------------------------------------------------------------------------


@by_root
@pytest.mark.parametrize("ending", BESIDE)
def test_a_file_of_somebody_else_beside_the_queue_is_refused(place: Path, ending: str) -> None:
    path = a_queue_in(place)
    planted = Path(f"{path}{ending}")
    planted.write_bytes(b"planted")
    os.chown(planted, STRANGER, STRANGER)

    error = refused(path)

    assert f"{planted}: it belongs to another user (uid {STRANGER})" in error
    assert "move it away" in error
    assert planted.read_bytes() == b"planted"


@pytest.mark.parametrize("ending", BESIDE)
@pytest.mark.parametrize("mode", [0o666, 0o660, 0o602])
def test_a_file_others_may_write_beside_a_queue_is_refused(place: Path, ending: str, mode: int) -> None:
    path = a_queue_in(place)
    Path(f"{path}{ending}").write_bytes(b"")
    os.chmod(f"{path}{ending}", mode)

    assert f"may be written by others (mode {mode:04o})" in refused(path)


def test_a_log_is_no_more_open_than_its_queue(place: Path) -> None:
    """A file made under the umask 002 of many systems is used as before, only not trusted."""
    path = a_queue_in(place)
    os.chmod(path, 0o664)
    Path(f"{path}-wal").write_bytes(b"")
    os.chmod(f"{path}-wal", 0o664)
    huey = SqliteHuey("q", filename=path)

    assert not huey.storage.is_trusted
    huey.close()


def a_socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        # The name of a socket is short.
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


KINDS: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
    (Path.mkdir, "a folder"),
    (os.mkfifo, "a named pipe"),
    (a_socket, "a socket"),
]


@pytest.mark.parametrize("ending", BESIDE)
@pytest.mark.parametrize(("make", "kind"), KINDS, ids=["dangling", "link", "folder", "pipe", "socket"])
def test_what_is_no_plain_file_beside_the_queue_is_refused(place: Path, make: Callable[[Path], object], kind: str, ending: str) -> None:
    path = a_queue_in(place)
    Path(f"{path}{ending}").unlink(missing_ok=True)
    make(Path(f"{path}{ending}"))

    assert f"{path}{ending}: it is {kind}, not a plain file" in refused(path)


@by_root
def test_a_device_beside_the_queue_is_refused(place: Path) -> None:
    path = a_queue_in(place)
    try:
        os.mknod(f"{path}-journal", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make devices")

    assert "it is a device" in refused(path)


@pytest.mark.parametrize("ending", BESIDE)
def test_a_file_with_a_second_name_beside_the_queue_is_refused(place: Path, ending: str) -> None:
    path, other = a_queue_in(place), place / "other"
    Path(f"{path}{ending}").unlink(missing_ok=True)
    other.write_bytes(b"")
    other.chmod(0o600)
    os.link(other, f"{path}{ending}")

    assert "has a second name" in refused(path)


@by_root
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_strangers_log_is_never_read_whatever_the_folder(place: Path, mode: int) -> None:
    path, log = a_queue_in(place), Path(f"{place}/huey.db-wal")
    log.write_bytes(a_log_of(path, place / "his"))
    os.chown(log, STRANGER, STRANGER)
    place.chmod(mode)

    assert "belongs to another user" in refused(path)

    log.unlink()
    assert [row.name for row in SqliteHuey("q", filename=path).storage.find()] == ["t"]


def test_parts_of_0_4_9_in_a_file_refuse_a_foreign_log_too(place: Path) -> None:
    path = a_queue_in(place)
    Path(f"{path}-wal").symlink_to("nowhere")

    with pytest.raises(StorageRefused, match="a symbolic link"):
        SqliteQueue("q", path)


@by_root
def test_another_users_process_refuses_what_a_third_planted(place: Path) -> None:
    """With real users: the queue belongs to one, the folder to root and to all, the log to another one."""
    path, log = a_queue_in(place), Path(f"{place}/huey.db-wal")
    log.write_bytes(a_log_of(path, place / "his"))
    os.chown(path, 3001, 3001)
    os.chown(log, 3002, 3002)
    log.chmod(0o644)
    for ending in BY_US:
        Path(f"{path}{ending}").unlink(missing_ok=True)
    place.chmod(0o1777)

    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(3001)
            os.setuid(3001)
            SqliteHuey("q", filename=path).storage.open()
        except StorageRefused as error:
            os._exit(0 if "uid 3002" in str(error) else 2)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- between the look and the opening ----------------------------------------------------------------------------------------------------


def test_a_file_replaced_while_it_is_opened_is_not_believed(place: Path) -> None:
    path, log = a_queue_in(place), Path(f"{place}/huey.db-wal")
    log.touch(0o600)

    def replaced() -> None:
        with unchanged_neighbours(str(path), 0o600):
            log.rename(place / "former")
            log.touch(0o600)

    with pytest.raises(StorageUnavailable, match="replaced while it was opened"):
        replaced()


def test_a_file_closed_by_another_meanwhile_is_opened_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tries = a_queue_in(place), []

    @contextmanager
    def first_replaced(path: str, mode: int) -> Iterator[None]:
        tries.append(path)
        with unchanged_neighbours(path, mode):
            yield
        if len(tries) < 3:
            raise Replaced(path)

    monkeypatch.setattr(connection, "unchanged_neighbours", first_replaced)
    storage = SqliteHuey("q", filename=path).storage
    storage.open()

    assert len(tries) == 3
    storage.close()


@by_root
def test_a_file_that_is_planted_while_it_is_opened_is_refused(place: Path) -> None:
    path, log = a_queue_in(place), Path(f"{place}/huey.db-wal")

    def planted() -> None:
        with unchanged_neighbours(str(path), 0o600):
            log.touch(0o600)
            os.chown(log, STRANGER, STRANGER)

    with pytest.raises(StorageRefused, match="another user"):
        planted()


@pytest.mark.skipif(sys.platform != "linux", reason="regular files are made without opening them on Linux only")
def test_in_a_shared_folder_names_are_taken_before_sqlite_looks(place: Path) -> None:
    """In a sticky folder nobody can take away what is ours."""
    path = a_queue_in(place)
    place.chmod(0o1777)

    with unchanged_neighbours(str(path), 0o600):
        found = check_neighbours(str(path), 0o600)

    assert found.keys() >= set(BY_SQLITE)
    assert {stat.S_IMODE(os.stat(f"{path}{ending}").st_mode) for ending in BY_SQLITE} == {0o600}
    huey = SqliteHuey("q", filename=path)
    assert huey.storage.is_trusted
    assert len(huey) == 1
    huey.close()


def test_in_a_folder_of_our_own_no_names_are_taken(place: Path) -> None:
    files.reserve_names(str(a_queue_in(place)), 0o600)

    assert not list(place.glob("*-journal"))


# -- folders -----------------------------------------------------------------------------------------------------------------------------


def is_trusted(path: Path, **options: Any) -> bool:
    huey = SqliteHuey("q", filename=path, **options)
    try:
        return huey.storage.is_trusted
    finally:
        huey.close()


@by_root
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_queue_below_a_folder_of_somebody_else_is_not_trusted(place: Path, above: int) -> None:
    folder = place / "one" / "two" / "three"
    folder.mkdir(parents=True)
    path = a_queue_in(folder)
    assert is_trusted(path)

    os.chown([folder, folder.parent, folder.parent.parent][above], STRANGER, STRANGER)

    assert not is_trusted(path)


@pytest.mark.parametrize("above", [0, 1, 2])
@pytest.mark.parametrize(("mode", "expected"), [(0o777, False), (0o775, False), (0o1777, True), (0o755, True)])
def test_a_queue_below_a_folder_others_may_rename_is_untrusted(place: Path, above: int, mode: int, expected: bool) -> None:
    folder = place / "one" / "two" / "three"
    folder.mkdir(parents=True)
    path = a_queue_in(folder)

    [folder, folder.parent, folder.parent.parent][above].chmod(mode)

    assert is_trusted(path) is expected


@by_root
def test_a_link_of_another_user_on_the_way_is_not_trusted(place: Path) -> None:
    (place / "real").mkdir()
    a_queue_in(place / "real")
    (place / "open").mkdir()
    (place / "open").chmod(0o1777)
    link = place / "open" / "link"
    link.symlink_to("../real")
    assert is_trusted(link / "huey.db")

    os.lchown(link, STRANGER, STRANGER)

    assert not is_trusted(link / "huey.db")


# -- groups ------------------------------------------------------------------------------------------------------------------------------


@by_root
def test_files_of_the_group_that_shares_the_queue_are_believed(place: Path) -> None:
    place.chmod(0o2770)
    os.chown(place, 0, 3100)
    huey = SqliteHuey("q", filename=place / "huey.db", file_mode=0o660)
    huey.storage.open()
    huey.close()
    log = place / "huey.db-wal"
    log.touch()
    log.chmod(0o660)
    os.chown(log, 3001, 3100)

    assert is_trusted(place / "huey.db", file_mode=0o660)


@by_root
def test_where_strangers_files_get_the_group_it_says_nothing(place: Path) -> None:
    """In a folder with the setgid bit that all may write."""
    os.chown(place, 0, 3100)
    place.chmod(0o3777)
    huey = SqliteHuey("q", filename=place / "huey.db", file_mode=0o660)
    huey.storage.open()
    huey.close()
    log = place / "huey.db-wal"
    log.touch()
    log.chmod(0o660)
    os.chown(log, STRANGER, 3100)

    assert "another user" in refused(place / "huey.db", file_mode=0o660)
