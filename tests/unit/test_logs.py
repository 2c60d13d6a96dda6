"""A log call of ours never raises, whatever a handler of the application does."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from huey.runtime.logs import SafeLogger


class Unsayable:
    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class Raising(logging.Handler):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@pytest.fixture
def plain() -> Iterator[logging.Logger]:
    logger = logging.getLogger("huey.test_logs")
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.filters.clear()


@pytest.mark.parametrize("error", [ValueError("down"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RecursionError()])
def test_a_handler_may_raise_anything(plain: logging.Logger, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    # As in a consumer, which has taken SIGINT over.
    monkeypatch.setattr("signal.getsignal", lambda number: print)
    plain.addHandler(Raising(error))

    SafeLogger("huey.test_logs").error("failed: %s", "f")


def test_so_may_a_filter_and_the_text_of_an_argument(plain: logging.Logger) -> None:
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    plain.addHandler(handler)

    SafeLogger("huey.test_logs").error("failed: %s", Unsayable())
    plain.addFilter(lambda record: (_ for _ in ()).throw(SystemExit()))  # type: ignore[arg-type,return-value]
    SafeLogger("huey.test_logs").exception("failed")

    assert told == []


def test_ctrl_c_of_a_program_passes(plain: logging.Logger) -> None:
    plain.addHandler(Raising(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        SafeLogger("huey.test_logs").error("failed")


def test_a_line_names_the_place_that_logs_it(plain: logging.Logger) -> None:
    places: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: places.append(record.filename)  # type: ignore[method-assign]
    plain.addHandler(handler)

    log = SafeLogger("huey.test_logs")
    log.error("here")
    log.exception("here")
    log.log(logging.ERROR, "here")
    log.debug("not wanted")

    assert places == ["test_logs.py"] * 3
