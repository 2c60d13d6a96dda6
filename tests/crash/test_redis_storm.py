"""The kill storm on a Redis server, which itself dies, restarts and loses replies."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.crash.test_command_storm import storm
from tests.crash.tools import KILLS
from tests.support.helpers import wait_until
from tests.support.lossy_proxy import LossyProxy
from tests.support.redis_server import ALWAYS, Server

SLACK = 2.0
"""Seconds that the end of a body may be unwritten when its process is killed: the server is away, or an answer was lost."""


@pytest.mark.timeout(120)
def test_kills_of_any_process_lose_nothing_in_redis(make_commanded: Any, show: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=0.002) as proxy:
        restarts = {3: signal.SIGKILL, 5: signal.SIGTERM}
        storm(make_commanded, show, kills=7, seconds=4.2, between=restart_at(server, restarts), **urls(server, proxy))
    show(f"{proxy.lost} replies lost")


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_many_kills_lose_nothing_in_redis(make_commanded: Any, show: Any) -> None:
    with Server(None, *ALWAYS) as server, LossyProxy(server.port, loss=0.01) as proxy:
        restarts = {KILLS * n // 8: (signal.SIGTERM, signal.SIGKILL)[n % 2] for n in range(1, 7)}
        between = restart_at(server, restarts)
        verdict = storm(make_commanded, show, kills=KILLS, seconds=KILLS * 0.8, between=between, **urls(server, proxy))
    show(f"{proxy.lost} replies lost, {len(restarts)} restarts of the server")
    assert verdict.kills >= KILLS
    assert verdict.slack < SLACK
    assert proxy.lost > KILLS / 10


def restart_at(server: Any, restarts: Any) -> Any:
    def between(strikes: Any, commands: Any) -> None:
        if strikes in restarts:
            # A command that finds no server at its start ends, as it should.
            wait_until(lambda: all(command.is_known for command in commands), "all commands have started")
            restart(server, restarts[strikes])

    return between


def restart(server: Any, how: Any) -> None:
    server.stop(how)
    server.start()


def urls(server: Any, proxy: Any) -> Any:
    """The processes meet the proxy, who judges them the server."""
    return {"url": server.url, "for_processes": {"url": f"redis://127.0.0.1:{proxy.port}/0"}}
