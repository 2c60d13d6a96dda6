"""Parts in Redis as a whole: events on the channel, and a server that goes away (C15)."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Iterator

import pytest

from huey import Huey
from huey.backends.redis_backend import RedisEventEmitter
from huey.exceptions import QueueWriteException
from tests.compat_049.parts.conftest import in_redis
from tests.support.helpers import noting, running, wait_until
from tests.support.redis_server import ALWAYS, Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own, which keeps what it was told."""
    with Server(None, *ALWAYS) as server:
        yield server


def test_S23_S119_S172_events_are_json_on_the_channel(port: int) -> None:
    emitter = RedisEventEmitter("My-App", host="127.0.0.1", port=port)
    huey = Huey(*in_redis(port), emitter)
    note = noting(huey, [])

    with emitter.conn.pubsub() as pubsub:
        pubsub.subscribe("My-App")
        pubsub.get_message(timeout=5)
        with running(huey):
            handle = note("a")
            assert handle.get(blocking=True, timeout=10) == "a"
            told = [json.loads(pubsub.get_message(timeout=5)["data"]) for _ in range(3)]

    assert [(event["status"], event["id"]) for event in told] == [(status, handle.id) for status in ("enqueued", "started", "finished")]


def test_C15_a_server_that_comes_back_is_worked_with_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """What ran meanwhile has its end written; what could not be put in was told."""
    huey = Huey(*in_redis(server.port), RedisEventEmitter("app", host="127.0.0.1", port=server.port))
    begun, may_end, ran = threading.Event(), threading.Event(), []

    @huey.task()
    def slow() -> str:
        ran.append("slow")
        begun.set()
        may_end.wait(20)
        return "done"

    with caplog.at_level(logging.INFO, logger="huey"), running(huey):
        handle = slow()
        assert begun.wait(10)
        server.stop(signal.SIGKILL)
        with pytest.raises(QueueWriteException):
            slow()
        may_end.set()
        wait_until(lambda: "storage unavailable" in caplog.text)
        server.start()
        assert handle.get(blocking=True, timeout=10) == "done"
        wait_until(lambda: "storage is back" in caplog.text)
        assert slow().get(blocking=True, timeout=10) == "done"

    assert ran == ["slow", "slow"]
    assert caplog.text.count("storage unavailable") == 1
