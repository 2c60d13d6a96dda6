"""The consumer command beside section H: flags of 3.x, the environment, what it says at its start, mistakes that it explains."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from huey.cli.consumer import main
from huey.cli.errors import OptionError
from huey.cli.parser import given_settings
from huey.constants import __version__
from huey.consumer.settings import OPTIONS
from tests.support.helpers import Project, wait_until

APP = """
@huey.task()
def add(a, b):
    return a + b
"""

SLOW = (
    APP
    + """
import pathlib
import threading

@huey.task()
def slow():
    pathlib.Path('started').touch()
    while not pathlib.Path('may-end').exists():
        threading.Event().wait(0.01)
    return 'done'
"""
)


def read(*arguments: str, **environment: str) -> dict[str, Any]:
    """What these arguments and this environment set."""
    settings = given_settings(arguments, environment)
    settings.pop("path")
    return settings


def roundtrip(project: Project) -> None:
    assert project.task("main.add")(1, 2).get(blocking=True, timeout=10) == 3


# -- flags ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["-k", "process", "-w", "4"], {"worker_type": "process", "workers": 4}),
        (["--worker-type=thread"], {"worker_type": "thread"}),
        (["-s", "5"], {"scheduler_interval": 5.0}),
        (["-c", "20", "-M", "100"], {"health_check_interval": 20.0, "max_tasks": 100}),
        (["--health-check-interval", "20"], {"health_check_interval": 20.0}),
        (["-C"], {"check_worker_health": False}),
        (["--disable-health-check"], {"check_worker_health": False}),
        (["-f"], {"flush_locks": True}),
        (["--flush-locks", "-L", "a,b"], {"flush_locks": True, "extra_locks": ("a", "b")}),
        (["--extra-locks=a"], {"extra_locks": ("a",)}),
        (["--max-tasks=7", "--max-memory=200"], {"max_tasks": 7, "max_memory": 200}),
        (["-S"], {"simple": True}),
        (["--simple", "-vn"], {"simple": True, "verbose": True, "periodic": False}),
        (["--shutdown-timeout=0"], {"shutdown_timeout": 0.0}),
        (["-t", "2.5"], {"shutdown_timeout": 2.5}),
        (["--graceful-signal", "INT"], {"graceful_signal": ("INT",)}),
        (["-g", "TERM"], {"graceful_signal": ("TERM",)}),
        (["--queues", "a,b:2"], {"queues": (("a", 1), ("b", 2))}),
        (["--reload"], {"reload": True}),
        (["-p", "-n"], {"periodic": False}),
        (["-n", "-p"], {"periodic": True}),
        (["-u", "--localtime"], {"localtime": True}),
        (["-P", "30"], {"periodic_task_interval": 30.0}),
    ],
)
def test_a_flag_is_read(arguments: list[str], settings: dict[str, Any]) -> None:
    assert read("main.huey", *arguments) == settings
    assert read(*arguments, "main.huey") == settings


@pytest.mark.parametrize("arguments", [["-S", "1.0"], ["-S1.0"], ["-S", "1"], ["--scheduler-interval", "1.0"], ["-s1"]])
def test_capital_s_with_a_number_is_the_scheduler_interval(arguments: list[str]) -> None:
    assert read("main.huey", *arguments) == {"scheduler_interval": 1.0}
    assert read(*arguments, "main.huey") == {"scheduler_interval": 1.0}


def test_capital_s_alone_is_the_short_log_of_3_x() -> None:
    assert read("-S", "main.huey", "-w", "2") == {"simple": True, "workers": 2}
    assert read("main.huey", "-S", "-S", "2.0") == {"simple": True, "scheduler_interval": 2.0}


# -- environment ------------------------------------------------------------------------------------------------------------------------


def test_every_option_may_stand_in_the_environment() -> None:
    given = {
        option.environment: "1" if option.read is None else option.default_text or {"logfile": "x.log", "queues": "a"}.get(option.name, "5")
        for option in OPTIONS
        if option.name != "quiet"
    }

    assert set(read(**given)) == {option.name for option in OPTIONS} - {"quiet"}


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({"HUEY_WORKERS": "4"}, {"workers": 4}),
        ({"HUEY_PERIODIC": "0"}, {"periodic": False}),
        ({"HUEY_LOCALTIME": "yes"}, {"localtime": True}),
        ({"HUEY_CHECK_WORKER_HEALTH": "off"}, {"check_worker_health": False}),
        ({"HUEY_WORKERS": ""}, {}),
        ({"HUEY_UNHEARD_OF": "4"}, {}),
    ],
)
def test_the_environment_is_read(environment: dict[str, str], settings: dict[str, Any]) -> None:
    assert read(**environment) == settings


def test_a_flag_wins_over_the_environment() -> None:
    assert read("-w", "2", HUEY_WORKERS="4") == {"workers": 2}
    assert read("-q", HUEY_VERBOSE="1") == {"quiet": True}
    assert read("-v", HUEY_QUIET="1") == {"verbose": True}


@pytest.mark.parametrize(("name", "value"), [("HUEY_WORKERS", "many"), ("HUEY_PERIODIC", "perhaps"), ("HUEY_WORKER_TYPE", "greenlet")])
def test_a_wrong_value_in_the_environment_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(OptionError, match=f"{name}='{value}' is not valid"):
        read(**{name: value})


# -- mistakes ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["main.huey", "-v", "-q"], "--verbose and --quiet contradict"),
        (["main.huey", "-k", "greenlet"], "worker-type.*greenlets are not supported; use thread .* or process"),
        (["main.huey", "-k", "gevent"], "worker-type.*greenlets are not supported; use thread .* or process"),
        (["main.huey", "-k", "fibre"], "worker-type.*'fibre'.*expected thread, process or async"),
        (["main.huey", "-w", "two"], "--workers.*'two' is not valid: expected a whole number"),
        (["main.huey", "-s", "7"], "--scheduler-interval.*'7'.*divides 60"),
        (["main.huey", "-S", "7"], "--scheduler-interval.*'7'.*divides 60"),
        (["main.huey", "-b", "0.9"], "--backoff.*'0.9'.*at least 1"),
        (["main.huey", "-M", "5", "-C"], "max_tasks=5.*--disable-health-check"),
        (["main.huey", "--graceful-signal", "HUP"], "graceful-signal.*'HUP'.*TERM,INT"),
        (["main.huey", "--wrokers", "2"], "unrecognized arguments: --wrokers 2; did you mean '--workers'"),
        (["main.huey", "other.huey"], "other.huey"),
    ],
)
def test_a_wrong_option_is_one_line_and_ends_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told before anything is imported."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(arguments))

    assert ended.value.code == 2
    is_one_line(capsys.readouterr().err, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["main.huey", "-l", "no/such/folder/x.log"], "--logfile no/such/folder/x.log: No such file.*use a file"),
        (["main.huey", "-l", "."], "--logfile .: it is a folder.*use a file"),
        (["main.huey", "-l", "link.log"], "--logfile link.log: it is a symbolic link"),
        (["nope.huey"], "Error importing nope.huey: no module nope in .*PYTHONPATH"),
        (["main"], "Error importing main: expected module and instance, such as main.huey"),
        (["main/huey"], "Error importing main/huey: expected module and instance separated by dots, such as main.huey$"),
        (["pack/app"], "Error importing pack/app: expected module and instance separated by dots, such as pack.app.huey$"),
        (["main:heuy"], "Error importing main:heuy: module main has no 'heuy'"),
        (["main:app:huey"], "Error importing main:app:huey: .*such as main.app.huey"),
        (["./main.py"], "Error importing ./main.py: .*such as main.huey"),
        (["main.heuy"], "Error importing main.heuy: module main has no 'heuy'; its Huey instances: huey, spare"),
        (["main.add"], "main.add is a TaskWrapper, not a Huey instance"),
        (["main.spare"], "main.spare has no tasks: they are declared with another instance, of another queue: main.huey"),
        (["script.huey"], r"Error importing script.huey: the module exited \(code 3\).*__main__"),
        ([], "missing argument: the import path of your Huey instance"),
    ],
)
def test_a_mistake_is_one_line_and_ends_with_1(project: Project, arguments: list[str], said: str) -> None:
    project.write(APP + "\nspare = SqliteHuey('spare', filename='spare.db')\n")
    project.write(APP, "pack/app.py")
    (project.home / "script.py").write_text("import sys\nsys.exit(3)\n")
    (project.home / "link.log").symlink_to(project.home / "elsewhere.log")

    consumer = project.start(*arguments)

    assert consumer.ended() == 1
    is_one_line(consumer.log, said)
    assert project.huey.storage.workers() == []


def is_one_line(log: str, said: str) -> None:
    """Beside the line itself at most the way to further help."""
    assert re.search(said, log, re.MULTILINE), log
    assert log.startswith("huey_consumer: ")
    assert len(log.splitlines()) <= 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_a_log_file_without_leave_to_write_is_named(project: Project) -> None:
    project.write(APP)
    (project.home / "x.log").touch(mode=0o400)

    consumer = project.start("main.huey", "-l", "x.log")

    assert consumer.ended() == 1
    assert "--logfile x.log: Permission denied" in consumer.log


def test_too_few_workers_for_the_queues_end_with_2(project: Project) -> None:
    project.write(APP)

    consumer = project.start("main.huey", "--queues", "app,video")

    assert consumer.ended() == 2
    is_one_line(consumer.log, "workers=1 for 2 queues.*--workers 2 or more")


def test_a_wrong_environment_ends_with_2(project: Project) -> None:
    project.write(APP)

    consumer = project.start("main.huey", HUEY_WORKERS="many")

    assert consumer.ended() == 2
    assert consumer.log == "huey_consumer: HUEY_WORKERS='many' is not valid: expected a whole number from 1 to 10000\n"


def test_a_module_that_lacks_another_shows_where(project: Project) -> None:
    """Only a wrong path is told without traceback; what breaks inside the application needs one."""
    project.write("import not_installed\n")

    consumer = project.start("main.huey")

    assert consumer.ended() == 1
    assert "Traceback" in consumer.log
    assert "main.py" in consumer.log
    assert "Error importing main.huey: ModuleNotFoundError: No module named 'not_installed'" in consumer.log


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def broken(:\n", ['.*/main.py", line 6', "    def broken(:", " +^", "SyntaxError: invalid syntax"]),
        ("raise ValueError('no')\n", ["Traceback .*", '.*/main.py", line 6, in <module>', "    raise ValueError.'no'.", "ValueError: no"]),
    ],
)
def test_an_error_in_a_module_begins_with_its_own_lines(project: Project, text: str, lines: list[str]) -> None:
    project.write(text)

    consumer = project.start("main.huey")

    assert consumer.ended() == 1
    *told, last = consumer.log.splitlines()
    assert len(told) == len(lines), consumer.log
    assert "importlib" not in consumer.log
    assert last.startswith("huey_consumer: Error importing main.huey: ")


def test_the_path_may_have_a_colon(project: Project) -> None:
    project.write(APP)

    consumer = project.start("main:huey")
    roundtrip(project)

    assert consumer.stop() == 0


def test_a_queue_that_no_task_has_is_told(project: Project) -> None:
    project.write(APP + "\n@huey.task(queue='video')\ndef cut():\n    pass\n")

    consumer = project.start("main.huey", "--queues", "app,vidoe", "-w", "2")
    roundtrip(project)

    assert consumer.stop() == 0
    assert "no task of this application belongs to queue 'vidoe'; did you mean 'video'?" in consumer.log


def test_help_and_version(project: Project) -> None:
    helped, versioned = project.start("--help"), project.start("--version")

    assert helped.ended() == versioned.ended() == 0
    assert versioned.log == f"huey {__version__}\n"
    for option in OPTIONS:
        assert all(flag in helped.log for flag in option.flags)
        assert option.environment in helped.log


# -- at work ----------------------------------------------------------------------------------------------------------------------------


def test_the_start_says_what_there_is(project: Project) -> None:
    project.write(
        APP
        + """
@huey.periodic_task(crontab(minute='0', hour='3'))
def nightly():
    pass

@huey.periodic_task(crontab(minute='30', hour='4', tz='Asia/Tokyo'))
def abroad():
    pass

@huey.periodic_task(crontab(month='2', day='30'))
def never():
    pass

@huey.periodic_task("* * * * *")
def always():
    pass

@huey.periodic_task(crontab("4", "5"))
def doubtful():
    pass

@huey.periodic_task(lambda dt: False)
def odd():
    pass
"""
    )

    consumer = project.start("main.huey", "-w", "3")
    roundtrip(project)
    assert consumer.stop() == 0

    for said in (
        rf"huey {re.escape(__version__)} on Python 3[\d.]+, pid \d+",
        r"queue 'app' in <SqliteStorage 'app' in .*queue\.db>, 3 worker threads",
        r"task main\.add",
        r"periodic task main\.nightly: crontab\(minute='0', hour='3'\), next \d{4}-\d\d-\d\d 03:00 UTC",
        r"periodic task main\.abroad: crontab\(.*tz='Asia/Tokyo'\), next \d{4}-\d\d-\d\d 04:30 JST",
        r"periodic task main\.never: .*which is never due",
        r"periodic task main\.always: every minute",
        r"periodic task main\.odd: its schedule function is called every minute",
    ):
        assert len(re.findall(rf"INFO:huey\.consumer:.*{said}", consumer.log)) == 1, (said, consumer.log)
    assert re.search(
        r"WARNING:huey\.consumer:.*periodic task main\.doubtful: crontab\('4', '5'\) has positional fields: here they mean "
        r"every minute of 5 April, in huey 3\.x they mean at 05:04 every day; write crontab\(day='5', month='4'\) or",
        consumer.log,
    )


def test_the_next_run_is_told_in_local_time_if_that_counts(project: Project) -> None:
    project.write(APP + "\n@huey.periodic_task(crontab(minute='0', hour='3'))\ndef nightly():\n    pass\n")

    consumer = project.start("main.huey", "--localtime", TZ="XXX-5")
    roundtrip(project)
    assert consumer.stop() == 0

    assert re.search(r"main\.nightly: .*next \d{4}-\d\d-\d\d 03:00 XXX", consumer.log)


def test_periodic_tasks_that_are_left_alone_are_said_to_be(project: Project) -> None:
    project.write(APP + "\n@huey.periodic_task(crontab())\ndef tick():\n    pass\n")

    consumer = project.start("main.huey", "-n")
    roundtrip(project)
    assert consumer.stop() == 0

    assert "periodic task main.tick: not scheduled by this consumer (--no-periodic)" in consumer.log


@pytest.mark.parametrize("arguments", [("-S",), ("--simple", "-l", "app.log")])
def test_a_simple_log_has_time_and_message(project: Project, arguments: tuple[str, ...]) -> None:
    project.write(APP)

    consumer = project.start(*arguments, "main.huey")
    roundtrip(project)
    assert consumer.stop() == 0

    text = (project.home / "app.log").read_text("utf-8") if "-l" in arguments else consumer.log
    assert re.search(r"^\d\d:\d\d:\d\d task main\.add$", text, re.MULTILINE)
    assert "INFO" not in text


def test_the_flags_of_3_x_go_together(project: Project) -> None:
    project.write(APP)

    arguments = shlex.split("main.huey -S -w 2 -k thread -s 5 -c 20 -f -L a,b -M 1000 -d 0.1 -m 5 -b 1.2 --queues app:2 --max-memory 4000")
    consumer = project.start(*arguments)

    roundtrip(project)
    assert consumer.stop() == 0


def test_the_flags_of_0_4_9_go_together(project: Project) -> None:
    project.write(APP)

    consumer = project.start(*shlex.split("main.huey -l app.log -v -t 2 -p -u -d 0.1 -m 5 -b 1.2 -S 1.0 -P 60"))

    roundtrip(project)
    assert consumer.stop() == 0
    assert "stopped" in (project.home / "app.log").read_text("utf-8")


DEADLY = (
    APP
    + """
import os

@huey.task()
def pid():
    return os.getpid()

@huey.task()
def end():
    os._exit(9)
"""
)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_tasks_run_in_worker_processes(project: Project, kind: str) -> None:
    project.write(DEADLY)

    consumer = project.start("main.huey", "-k", kind, "-w", "2")

    assert project.task("main.pid")().get(blocking=True, timeout=10) != consumer.process.pid
    assert consumer.stop() == 0
    assert f"2 worker {kind}{'es' if kind == 'process' else 's'}" in consumer.log


def test_a_worker_is_started_anew_after_so_many_tasks(project: Project) -> None:
    project.write(DEADLY)
    pid = project.task("main.pid")

    consumer = project.start("main.huey", "-M", "2")

    pids = [pid().get(blocking=True, timeout=10) for _ in range(6)]
    assert len(set(pids)) == 3, pids
    assert consumer.stop() == 0


def test_a_worker_that_died_is_not_replaced_if_so_asked(project: Project) -> None:
    """And a consumer without workers ends, so that whoever watches over it knows."""
    project.write(DEADLY)
    consumer = project.start("main.huey", "-C")
    roundtrip(project)

    handle = project.task("main.end")()

    assert consumer.ended() == 1
    assert "no worker is left and none will be started (--disable-health-check)" in consumer.log
    row = project.huey.storage.get(handle.id)
    assert row is not None
    assert row.state == "queued"


def started_slow(project: Project, *arguments: str) -> Any:
    """A consumer in the middle of a task that ends when ``may-end`` is there; and its handle."""
    project.write(SLOW)
    handle = project.task("main.slow")()
    consumer = project.start("main.huey", *arguments)
    wait_until((project.home / "started").exists, told=lambda: consumer.log)
    return consumer, handle


@pytest.mark.parametrize(
    ("flags", "number"),
    [("--graceful-signal=INT", signal.SIGTERM), ("--graceful-signal=TERM", signal.SIGINT)],
)
def test_a_signal_that_is_not_graceful_puts_running_tasks_back(project: Project, flags: str, number: signal.Signals) -> None:
    consumer, handle = started_slow(project, flags)

    # The task would run for ever.
    assert consumer.stop(number) == 0

    row = project.huey.storage.get(handle.id)
    assert row is not None
    assert (row.state, row.attempt) == ("queued", 0)
    (project.home / "may-end").touch()
    project.start("main.huey")
    assert handle.get(blocking=True, timeout=10) == "done"


@pytest.mark.parametrize(("flags", "number"), [("--graceful-signal=INT", signal.SIGINT), ("--graceful-signal=TERM", signal.SIGTERM)])
def test_a_signal_that_is_graceful_lets_running_tasks_end(project: Project, flags: str, number: signal.Signals) -> None:
    consumer, handle = started_slow(project, flags)

    consumer.send(number)
    wait_until(lambda: "stopping" in consumer.log)
    (project.home / "may-end").touch()

    assert consumer.ended() == 0
    assert handle.get() == "done"


def test_the_current_folder_of_a_task_does_not_move_the_log(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.write(APP + f"\nimport os\n\n@huey.task()\ndef move():\n    os.chdir({str(elsewhere)!r})\n    return 'moved'\n")

    consumer = project.start("main.huey", "-l", "app.log")
    assert project.task("main.move")().get(blocking=True, timeout=10) == "moved"
    assert consumer.stop() == 0

    assert "stopped" in (project.home / "app.log").read_text("utf-8")
    assert list(elsewhere.iterdir()) == []
