"""Whatever an application does to logging: each line of the consumer once, in the application's format if it has one, and never silence."""

from __future__ import annotations

import io
import logging
import logging.config
import logging.handlers
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey.cli.logs import Console, set_up_logging
from huey.runtime.log_queue import LOGGERS, hand_on
from huey.runtime.logs import SafeLogger
from tests.support.helpers import Project, wait_until

LINE = "a line of the consumer"


class Kept(logging.Handler):
    """Keeps lines, as loguru's bridge or a list in a test does."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Stderr:
    """What was written to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture(autouse=True)
def console(capsys: pytest.CaptureFixture[str]) -> Iterator[Stderr]:
    """Logging as in a new program; what is written to stderr."""
    loggers = [logging.getLogger(name) for name in ("root", *LOGGERS)]
    loggers[0] = logging.getLogger()
    before = [(it.handlers[:], it.level, it.disabled, it.propagate) for it in loggers]
    for it in loggers:
        it.handlers, it.disabled, it.propagate = [], False, True
        it.setLevel(logging.NOTSET)
    loggers[0].setLevel(logging.WARNING)
    yield Stderr(capsys)
    for it, (handlers, level, disabled, propagate) in zip(loggers, before, strict=True):
        it.handlers, it.disabled, it.propagate = handlers, disabled, propagate
        it.setLevel(level)


def set_up(settings: dict[str, Any]) -> None:
    """As in a program that pytest does not listen to."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    set_up_logging(settings)


def once(stderr: Stderr, level: int = logging.INFO) -> bool:
    SafeLogger("huey.consumer").log(level, LINE)
    return stderr.getvalue().count(LINE) == 1


def test_without_handlers_it_goes_to_the_console(console: Stderr) -> None:
    set_up({})

    assert once(console)
    assert "INFO:huey.consumer:" in console.getvalue()


def by_dict(**more: Any) -> None:
    config = {
        "version": 1,
        "formatters": {"own": {"format": "OWN %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
    }
    logging.config.dictConfig({**config, **more})


def by_file() -> None:
    text = "[loggers]\nkeys=root\n[handlers]\nkeys=c\n[formatters]\nkeys=own\n[logger_root]\nlevel=INFO\nhandlers=c\n"
    text += "[handler_c]\nclass=StreamHandler\nformatter=own\nargs=()\n[formatter_own]\nformat=OWN %(message)s\n"
    logging.config.fileConfig(io.StringIO(text))


OWN_FORMATS: dict[str, Callable[[], None]] = {
    "basicConfig": lambda: logging.basicConfig(format="OWN %(message)s", force=True),
    "dictConfig, which disables": by_dict,
    "dictConfig": lambda: by_dict(disable_existing_loggers=False),
    "fileConfig, which disables": by_file,
    "on huey": lambda: by_dict(root={}, loggers={"huey": {"handlers": ["console"], "propagate": False}}),
    "on huey.consumer": lambda: by_dict(root={}, loggers={"huey.consumer": {"handlers": ["console"], "propagate": False}}),
    "on huey.consumer and the root": lambda: by_dict(loggers={"huey.consumer": {"handlers": ["console"], "propagate": False}}),
}


@pytest.mark.parametrize("way", OWN_FORMATS)
def test_each_line_is_there_once_in_the_applications_format(console: Stderr, way: str) -> None:
    OWN_FORMATS[way]()

    set_up({})

    assert once(console), console.getvalue()
    assert console.getvalue() == f"OWN {LINE}\n"


class Nobody(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


def with_filter() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(Nobody())
    logging.getLogger().addHandler(handler)


SILENT: dict[str, Callable[[], None]] = {
    "a NullHandler": lambda: logging.getLogger("huey").addHandler(logging.NullHandler()),
    "propagate=False without a handler": lambda: setattr(logging.getLogger("huey"), "propagate", False),
    "huey.consumer alone": lambda: setattr(logging.getLogger("huey.consumer"), "propagate", False),
    "mails of errors": lambda: logging.getLogger().addHandler(Kept(logging.ERROR)),
    "a filter that lets nothing pass": with_filter,
    "disabled by hand": lambda: setattr(logging.getLogger("huey.consumer"), "disabled", True),
}


@pytest.mark.parametrize("way", SILENT)
def test_where_nobody_writes_our_lines_the_console_does(console: Stderr, way: str) -> None:
    SILENT[way]()

    set_up({})

    assert once(console), console.getvalue()


def test_a_bridge_to_another_library_is_enough(console: Stderr) -> None:
    bridge = Kept()
    logging.basicConfig(handlers=[bridge], level=0, force=True)

    set_up({})
    SafeLogger("huey.consumer").info(LINE)

    assert bridge.lines == [LINE]
    assert console.getvalue() == ""


def test_a_console_that_is_set_to_warnings_gets_no_more(console: Stderr) -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], force=True)

    set_up({})
    SafeLogger("huey.consumer").info("news")
    SafeLogger("huey.consumer").warning("trouble")

    assert console.getvalue().count("trouble") == 1
    assert "news" not in console.getvalue()


def test_a_handler_that_comes_later_takes_over(console: Stderr) -> None:
    set_up({})

    logging.basicConfig(format="OWN %(message)s", force=True)

    assert once(console)
    assert console.getvalue() == f"OWN {LINE}\n"


def test_the_level_that_the_application_gave_holds(console: Stderr) -> None:
    logging.getLogger("huey").setLevel(logging.ERROR)

    set_up({})

    assert not once(console)
    assert logging.getLogger("huey").level == logging.ERROR


@pytest.mark.parametrize(("flag", "level"), [("verbose", logging.DEBUG), ("quiet", logging.ERROR)])
def test_but_what_the_command_line_says_wins(flag: str, level: int) -> None:
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

    set_up({flag: True})

    assert {logging.getLogger(name).getEffectiveLevel() for name in LOGGERS} == {level}


def test_short_lines_name_what_is_no_mere_news(console: Stderr) -> None:
    set_up({"simple": True})
    SafeLogger("huey.consumer").info("news")
    SafeLogger("huey.consumer").error("trouble")

    assert [line.partition(" ")[2] for line in console.getvalue().splitlines()] == ["news", "ERROR trouble"]


def test_a_record_handed_on_by_the_queue_is_decided_the_same_way(console: Stderr) -> None:
    own = Kept()
    set_up({})
    logger = logging.getLogger("huey.consumer")
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, LINE, (), None)

    hand_on(logger, record)
    logging.getLogger().addHandler(own)
    hand_on(logger, record)

    assert (console.getvalue().count(LINE), own.lines) == (1, [LINE])
    assert isinstance(logging.getLogger("huey").handlers[0], Console)


# -- the command ------------------------------------------------------------------------------------------------------------------------

LATER = """
import logging
import logging.config

@huey.task()
def configure():
    handlers = {'c': {'class': 'logging.StreamHandler'}}
    logging.config.dictConfig({'version': 1, 'handlers': handlers, 'root': {'handlers': ['c'], 'level': 'INFO'}})

@huey.task()
def fail():
    raise ValueError('boom')
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_task_that_configures_logging_does_not_change_the_log(project: Project, kind: str) -> None:
    project.write(LATER)
    command = project.start("main.huey", "-k", kind)

    project.task("main.configure")()
    wait_until(lambda: "main.configure succeeded" in command.log, told=lambda: command.log)
    project.task("main.fail")()
    wait_until(lambda: "main.fail failed" in command.log, told=lambda: command.log)
    assert command.stop() == 0

    assert command.log.count("main.configure succeeded") == command.log.count("main.fail failed") == 1


def test_the_log_file_belongs_to_the_folder_of_the_start(project: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    project.write(f"import os\nos.chdir({str(tmp_path / 'elsewhere')!r})\n\n@huey.task()\ndef add():\n    return 1\n")
    command = project.start("main.huey", "--logfile", "huey.log")

    file = project.home / "huey.log"
    wait_until(lambda: file.exists() and "task main.add" in file.read_text(), told=lambda: command.log)

    assert command.stop() == 0
    assert not (tmp_path / "elsewhere" / "huey.log").exists()
