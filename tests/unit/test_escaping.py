"""No control character of what strangers wrote reaches a log or a terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from huey import MemoryHuey
from huey.runtime.log_queue import LOGGERS
from huey.runtime.logs import Lines, escaped, escaped_lines

FORGED = "7\n[2026-01-01 00:00:00,000] INFO:huey.consumer:MainThread:forged\x1b[2J\r\x9b2J\u2028\u202e\x00\x7f\ud800"


@contextmanager
def logged(name: str) -> Iterator[io.StringIO]:
    stream, logger = io.StringIO(), logging.getLogger(name)
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)


def is_clean(text: str) -> bool:
    return not any(line.startswith("[2026") or not line.isprintable() for line in text.replace("\t", " ").split("\n"))


def test_control_characters_are_written_as_python_writes_them() -> None:
    assert escaped("a\nb\x1b[2Jc\td") == "a\\nb\\x1b[2Jc\\td"
    assert escaped("plain text, \u00e4\u20ac") == "plain text, \u00e4\u20ac"
    assert escaped_lines("one\n[2026\x1b\n\ttwo") == "one\n  [2026\\x1b\n  \ttwo"
    assert is_clean(escaped(FORGED))


@pytest.mark.parametrize("name", LOGGERS)
def test_each_record_of_huey_is_escaped_whatever_it_carries(name: str) -> None:
    class Rude:
        def __repr__(self) -> str:
            return FORGED

    with logged(name) as stream:
        logger = logging.getLogger(name)
        logger.error("task %s %r %d", FORGED, Rude(), 5)
        logger.error("%(id)s", {"id": FORGED})
        logger.error("error\n%s", Lines(FORGED))
        try:
            raise ValueError(FORGED)
        except ValueError as error:
            logger.exception("a hook raised %s", error)

    text = stream.getvalue()
    assert is_clean(text)
    assert text.startswith("task 7\\n[2026")


def test_ids_and_errors_of_a_task_make_no_line_of_their_own() -> None:
    huey = MemoryHuey("app")

    @huey.task(name="t")
    def failing() -> None:
        raise ValueError(FORGED)

    with logged("huey.consumer") as stream:
        failing.schedule(id=FORGED.replace("\x00", "").replace("\ud800", ""))
        task = huey.dequeue()
        assert task is not None
        huey.execute(task)

    assert "forged" in stream.getvalue()
    assert is_clean(stream.getvalue())
