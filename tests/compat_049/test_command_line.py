"""Section H: the consumer command, run as users run it. Its application is the folder of the fixture ``project``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from huey.cli.consumer import main
from huey.cli.parser import given_settings
from huey.consumer.settings import validate_settings
from tests.support.helpers import Project, never, wait_until

ADD = """
@huey.task()
def add(a, b):
    return a + b
"""

TICK = (
    ADD
    + """
@huey.periodic_task(lambda dt: True)
def tick():
    with open('ticks', 'a') as file:
        file.write('tick\\n')
"""
)

LOGGED = (
    ADD
    + """
import logging

@huey.task()
def whisper():
    log = logging.getLogger('huey.consumer')
    log.debug('quite softly')
    log.info('as usual')
    log.warning('with care')
    return 'done'

@huey.task()
def bad():
    raise ValueError('nope')
"""
)

MEET = """
import threading

barriers = {n: threading.Barrier(n) for n in (2, 8)}
lock = threading.Lock()
inside = most = 0

@huey.task()
def meet(n):
    barriers[n].wait(10)
    return 'met'

@huey.task()
def crowd():
    global inside, most
    with lock:
        inside += 1
        most = max(most, inside)
    threading.Event().wait(0.05)
    with lock:
        inside -= 1
    return most
"""

STAMP = """
import time

@huey.task()
def stamp():
    return time.time()
"""

ZONED = (
    STAMP
    + """
from datetime import UTC, datetime, timedelta

@huey.periodic_task(lambda dt: tell(dt))
def tick():
    pass

def tell(dt):
    now = datetime.now(UTC)
    clocks = {'utc': now.replace(tzinfo=None), 'local': now.astimezone().replace(tzinfo=None)}
    seen = [name for name, clock in clocks.items() if abs(clock - dt.replace(tzinfo=None)) < timedelta(hours=1)]
    with open('seen', 'a') as file:
        file.write(' '.join(seen) + '\\n')
    return False
"""
)

FIVE_HOURS_AHEAD = "XXX-5"
"""A zone as TZ has it."""


def roundtrip(project: Project) -> None:
    """Something is asked of the application's ``add`` and answered."""
    assert project.task("main.add")(1, 2).get(blocking=True, timeout=10) == 3


def lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


# The path


def test_S88_the_argument_is_the_path_of_the_instance(project: Project) -> None:
    project.write(ADD)

    consumer = project.start("main.huey")

    roundtrip(project)
    assert consumer.stop() == 0


def test_S88_the_path_may_have_dots(project: Project) -> None:
    project.write(path="blog/__init__.py")
    project.write(ADD, path="blog/main.py")

    consumer = project.start("blog.main.huey")

    assert project.task("blog.main.add")(1, 2).get(blocking=True, timeout=10) == 3
    assert consumer.stop() == 0


def test_S89_a_missing_path_is_an_error(project: Project) -> None:
    consumer = project.start()

    assert consumer.ended() == 1
    assert "import path" in consumer.log
    assert "missing" in consumer.log
    assert "example" in consumer.log.lower()


def test_S90_a_bad_path_is_an_error(project: Project) -> None:
    project.write(ADD)

    consumer = project.start("main.broken.huey")

    assert consumer.ended() != 0
    assert "Error importing main.broken.huey" in consumer.log


def test_S90_a_module_that_breaks_shows_why(project: Project) -> None:
    project.write("raise ValueError('this module is broken')\n")

    consumer = project.start("main.huey")

    assert consumer.ended() != 0
    assert "Error importing main.huey" in consumer.log
    assert "ValueError: this module is broken" in consumer.log
    assert "main.py" in consumer.log


@pytest.mark.parametrize("path", ["nope.huey", "main.nope"])
def test_S90_a_wrong_path_is_told_in_one_line(project: Project, path: str) -> None:
    """A traceback helps with what breaks inside the application, not with a slip of the pen."""
    project.write(ADD)

    consumer = project.start(path)

    assert consumer.ended() == 1
    assert len(consumer.log.splitlines()) == 1
    assert f"Error importing {path}" in consumer.log


def test_S91_the_current_directory_is_importable(project: Project) -> None:
    project.write("from other import word\n" + ADD)
    (project.home / "other.py").write_text("word = 'found'\n")

    consumer = project.start("main.huey", cwd=project.home)

    roundtrip(project)
    assert consumer.stop() == 0


def test_S92_pythonpath_is_respected(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.write(ADD)

    lost = project.start("main.huey", cwd=elsewhere)
    assert lost.ended() != 0

    consumer = project.start("main.huey", cwd=elsewhere, PYTHONPATH=str(project.home))
    roundtrip(project)
    assert consumer.stop() == 0


# Spellings


@pytest.mark.parametrize(
    "spellings",
    [
        [["-l", "app.log"], ["-lapp.log"], ["--logfile=app.log"], ["--logfile", "app.log"]],
        [["-v"], ["--verbose"]],
        [["-q"], ["--quiet"]],
        [["-w", "2"], ["-w2"], ["--workers=2"], ["--threads=2"]],
        [["-p"], ["--periodic"]],
        [["-n"], ["--no-periodic"]],
        [["-d", "0.02"], ["--delay=0.02"]],
        [["-m", "0.1"], ["--max-delay=0.1"]],
        [["-b", "1.1"], ["--backoff=1.1"]],
        [["-u"], ["--utc"]],
    ],
)
def test_S93_to_S104_an_option_may_be_spelled(spellings: list[list[str]]) -> None:
    """The tests below start commands with the first one of each, or with none where it is the default."""
    read = [given_settings([*words, "main.huey"], {}) for words in spellings]

    assert all(settings == read[0] for settings in read)
    assert read[0] != given_settings(["main.huey"], {})


def test_S98_S99_the_defaults_may_be_said() -> None:
    assert validate_settings({"workers": 1, "periodic": True}) == validate_settings({})


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says to these words, which it refuses before it looks for the application."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(main([*words, "main.huey"]))
    assert ended.value.code == 2
    return capsys.readouterr().err


# The log


def test_S93_the_log_goes_to_a_file(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey", "-l", "app.log")

    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    written = (project.home / "app.log").read_text("utf-8")
    assert "as usual" in written
    assert "quite softly" not in written


def test_S93_the_log_goes_on_in_the_same_file(project: Project) -> None:
    project.write(LOGGED)

    for _ in range(2):
        consumer = project.start("main.huey", "-l", "app.log")
        assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
        assert consumer.stop() == 0

    assert (project.home / "app.log").read_text("utf-8").count("as usual") == 2


def test_S94_the_log_file_is_turned_over_at_one_megabyte(project: Project) -> None:
    chatter = """
@huey.task()
def chatter():
    log = logging.getLogger('huey.consumer')
    for n in range(5600):
        log.info('%05d %s', n, 'x' * 1000)
    return 'done'
"""
    project.write(LOGGED + chatter)

    consumer = project.start("main.huey", "-l", "x")
    assert project.task("main.chatter")().get(blocking=True, timeout=20) == "done"
    assert consumer.stop() == 0

    sizes = {file.name: file.stat().st_size for file in project.home.glob("x*")}
    assert sorted(sizes) == ["x", "x.1", "x.2", "x.3"]
    assert max(sizes.values()) <= 1024 * 1024
    assert min(sizes[name] for name in ("x.1", "x.2", "x.3")) >= 900_000
    assert "05599 x" in (project.home / "x").read_text("utf-8") + (project.home / "x.1").read_text("utf-8")


def test_S93_the_file_has_the_log_instead_of_the_console(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey", "-l", "app.log")

    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    assert consumer.log == ""
    assert "task main.whisper" in (project.home / "app.log").read_text("utf-8")


def test_S95_the_default_level_is_info(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey")

    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    assert "as usual" in consumer.log
    assert "with care" in consumer.log
    assert "quite softly" not in consumer.log
    assert "DEBUG" not in consumer.log


def test_S96_verbose_means_debug_on_the_console(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey", "-v")

    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    assert "quite softly" in consumer.log
    assert "as usual" in consumer.log
    assert "DEBUG" in consumer.log


def test_S97_quiet_means_errors_only(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey", "-q")

    project.task("main.bad")()
    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    wait_until(lambda: "ValueError: nope" in consumer.log)
    assert consumer.stop() == 0
    assert "ERROR" in consumer.log
    for word in ("as usual", "with care", "INFO", "WARNING"):
        assert word not in consumer.log


def test_S97_a_quiet_consumer_says_nothing_while_all_is_well(project: Project) -> None:
    project.write(LOGGED)

    consumer = project.start("main.huey", "-q")

    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    assert consumer.log == ""


def test_S96_S97_both_at_once_are_a_contradiction(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--verbose and --quiet contradict each other" in refused(["-v", "-q"], capsys)


# Workers


def test_S98_workers_run_tasks_at_the_same_time(project: Project) -> None:
    project.write(MEET)
    meet = project.task("main.meet")

    consumer = project.start("main.huey", "-w", "2")

    first, second = meet(2), meet(2)
    assert [first.get(blocking=True, timeout=10), second.get(blocking=True, timeout=10)] == ["met", "met"]
    assert consumer.stop() == 0


def test_S98_the_default_is_one_worker(project: Project) -> None:
    project.write(MEET)
    crowd = project.task("main.crowd")
    handles = [crowd() for _ in range(4)]

    consumer = project.start("main.huey")

    assert [handle.get(blocking=True, timeout=10) for handle in handles] == [1, 1, 1, 1]
    assert consumer.stop() == 0


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5"])
def test_S98_a_number_of_workers_that_cannot_be_is_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused([f"--workers={workers}"], capsys)

    assert "workers" in said
    assert workers in said


def test_S98_the_environment_may_say_how_many(project: Project) -> None:
    project.write(MEET)
    meet = project.task("main.meet")

    consumer = project.start("main.huey", HUEY_WORKERS="2")

    handles = [meet(2), meet(2)]
    assert [handle.get(blocking=True, timeout=10) for handle in handles] == ["met", "met"]
    assert consumer.stop() == 0


# Periodic functions


def test_S99_periodic_functions_run_by_default(project: Project) -> None:
    project.write(TICK)

    consumer = project.start("main.huey")

    wait_until(lambda: lines_of(project.home / "ticks"), told=lambda: consumer.log)
    assert consumer.stop() == 0


def test_S100_a_consumer_may_leave_periodic_functions_alone(project: Project) -> None:
    project.write(TICK)

    consumer = project.start("main.huey", "-n", "-P", "0.02")

    roundtrip(project)
    assert never(lambda: lines_of(project.home / "ticks"))
    roundtrip(project)
    assert consumer.stop() == 0
    assert lines_of(project.home / "ticks") == []
    assert len(project.huey) == 0


# Waiting


@pytest.mark.slow_machine
@pytest.mark.parametrize("flags", [["-d", "0.02"], ["-m", "0.1"]])
def test_S101_S102_a_task_is_noticed_soon(project: Project, flags: list[str]) -> None:
    """The delays of polling: a consumer that idled notices a task within 0.3 s."""
    project.write(STAMP)
    stamp = project.task("main.stamp")
    consumer = project.start("main.huey", *flags)
    assert stamp().get(blocking=True, timeout=10)

    def latency() -> float:
        assert never(lambda: not consumer.is_running, within=0.15)
        called = time.time()
        started: float = stamp().get(blocking=True, timeout=10)
        return started - called

    # The best of three: the machine may be busy with something else.
    assert min(latency() for _ in range(3)) < 0.3
    assert consumer.stop() == 0


def test_S103_the_backoff_may_be_set(project: Project) -> None:
    project.write(ADD)

    consumer = project.start("main.huey", "-b", "1.1")

    roundtrip(project)
    assert consumer.stop() == 0


def test_S103_a_backoff_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["-b", "0.5"], capsys)

    assert "backoff" in said
    assert "0.5" in said


@pytest.mark.parametrize("flags", [["-d", "0"], ["-d", "x"], ["-m", "-1"], ["--max-delay=nan"]])
def test_S101_S102_a_delay_that_cannot_be_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(flags, capsys)

    assert "delay" in said
    assert "expected a number of seconds greater than 0" in said


# Clocks


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_S104_crontabs_are_utc_by_default(project: Project, flags: list[str]) -> None:
    project.write(ZONED)

    consumer = project.start("main.huey", *flags, TZ=FIVE_HOURS_AHEAD)

    wait_until(lambda: lines_of(project.home / "seen"), told=lambda: consumer.log)
    assert consumer.stop() == 0
    assert set(lines_of(project.home / "seen")) == {"utc"}


def test_S104_an_eta_as_it_is_means_utc_by_default(project: Project, set_zone: Callable[[str], None]) -> None:
    project.write(ZONED)
    set_zone(FIVE_HOURS_AHEAD)
    consumer = project.start("main.huey", TZ=FIVE_HOURS_AHEAD)
    wait_until(lambda: lines_of(project.home / "seen"), told=lambda: consumer.log)

    eta = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    handle = project.task("main.stamp").schedule(eta=eta.replace(tzinfo=None), convert_utc=False)

    assert handle.get(blocking=True, timeout=10) >= eta.timestamp()
    assert consumer.stop() == 0


def test_S105_crontabs_are_local_if_asked_for(project: Project) -> None:
    project.write(ZONED)

    consumer = project.start("main.huey", "--localtime", TZ=FIVE_HOURS_AHEAD)

    wait_until(lambda: lines_of(project.home / "seen"), told=lambda: consumer.log)
    assert consumer.stop() == 0
    assert set(lines_of(project.home / "seen")) == {"local"}


def test_S105_an_eta_as_it_is_means_local_time_if_asked_for(project: Project, set_zone: Callable[[str], None]) -> None:
    project.write(ZONED)
    set_zone(FIVE_HOURS_AHEAD)
    consumer = project.start("main.huey", "--localtime", TZ=FIVE_HOURS_AHEAD)
    wait_until(lambda: lines_of(project.home / "seen"), told=lambda: consumer.log)

    eta = datetime.now().replace(microsecond=0) + timedelta(seconds=1)
    handle = project.task("main.stamp").schedule(eta=eta, convert_utc=False)

    assert handle.get(blocking=True, timeout=10) >= eta.timestamp()
    assert consumer.stop() == 0


# All together


def test_S106_options_may_follow_the_path(project: Project) -> None:
    project.write(MEET)
    meet = project.task("main.meet")

    consumer = project.start("main.huey", "-l", "f", "-w", "8", "-b", "1.1", "-m", "1.0")

    handles = [meet(8) for _ in range(8)]
    assert [handle.get(blocking=True, timeout=10) for handle in handles] == ["met"] * 8
    assert consumer.stop() == 0
    assert (project.home / "f").stat().st_size > 0


def test_S106_options_may_stand_before_the_path(project: Project) -> None:
    project.write(ADD)

    consumer = project.start("-v", "-n", "main.huey")

    roundtrip(project)
    assert consumer.stop() == 0


@pytest.mark.parametrize("logger", ["huey", "huey.consumer"])
def test_S107_a_handler_of_your_own_gets_the_records(project: Project, logger: str) -> None:
    project.write(f"import logging\n\nlogging.getLogger({logger!r}).addHandler(logging.FileHandler('mine.log'))\n" + LOGGED)

    consumer = project.start("main.huey")

    project.task("main.bad")()
    assert project.task("main.whisper")().get(blocking=True, timeout=10) == "done"
    assert consumer.stop() == 0
    mine = (project.home / "mine.log").read_text("utf-8")
    assert mine.count("as usual") == 1
    assert "ValueError: nope" in mine
    # It is enough: no line stands anywhere else.
    assert consumer.log.count("as usual") == 0
