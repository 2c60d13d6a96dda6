"""A Redis server that goes away, is busy, or forgets its scripts, beside a consumer at work (C15, T8)."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import redis

from tests.support.helpers import wait_until
from tests.support.redis_server import ALWAYS, Server

RESUMES = 5.0
"""Seconds within which everything has to go on."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_while_the_server_is_away_tasks_run_on(make_place: Any, show: Any, how: Any) -> None:
    with Server(None, *ALWAYS) as server:
        place = make_place(url=server.url)
        running = [place.gated(n) for n in range(2)]
        consumer = place.start(workers=2)
        wait_until(lambda: all(place.started(id) for id in running), "they run")
        waiting = place.bulk(range(10, 20))
        server.stop(how)
        place.open_gate()

        wait_until(lambda: "storage unavailable" in place.log(), "it is told")
        share = consumer.cpu_share(2.0)
        assert consumer.is_alive
        server.start()
        begun = time.monotonic()

        wait_until(place.is_done, "all goes on", timeout=RESUMES)
        took = time.monotonic() - begun
        wait_until(lambda: "storage is back" in place.log(), "it is told")
        assert consumer.stop() == 0
        assert [place.log().count(line) for line in ("storage unavailable", "storage is back")] == [1, 1]
        assert all(len(place.started(id)) == 1 for id in running + waiting)
        verdict = place.verdict()
        assert not verdict.problems, verdict.problems
        show(f"resumed after {took:.2f} s; while the server was away {share:.1%} of a core")
        assert share < 0.1


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_server_that_sleeps_or_drops_clients_costs_time_only(make_place: Any) -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        place = make_place(url=server.url, enqueue_timeout=30)
        consumer = place.start(workers=2)
        wait_until(lambda: consumer.is_known, "it has started")
        for n in range(20):
            place.bulk(range(100 * n, 100 * n + 20), seconds=0.005)
            for client in admin.client_list():
                if client["id"] != admin.client_id():
                    admin.client_kill_filter(_id=client["id"])
            if n % 5 == 0:
                admin.script_flush()
        wait_until(place.is_done, "all is done", timeout=30)
        place.bulk(range(5000, 5100), seconds=0.005)
        os.kill(server.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
        consumer.cpu_share(8.0)
        os.kill(server.process.pid, signal.SIGCONT)  # type: ignore[union-attr]

        wait_until(place.is_done, "all is done", timeout=30)
        assert consumer.stop() == 0
        verdict = place.verdict()
        assert not verdict.problems, verdict.problems


@pytest.mark.chaos
@pytest.mark.timeout(60)
def test_a_server_at_maxmemory_writes_ends_and_begins_nothing(make_place: Any) -> None:
    with Server() as server, redis.Redis(port=server.port) as admin:
        place = make_place(url=server.url)
        running = place.gated(1)
        consumer = place.start(workers=1)
        wait_until(lambda: place.started(running), "it runs")
        waiting = place.work(5)
        admin.config_set("maxmemory", "1mb")
        place.open_gate()

        wait_until(lambda: place.storage.peek("result", running) is not None, "its end is written")
        wait_until(lambda: "storage unavailable" in place.log(), "it is told")
        assert not place.started(waiting)
        admin.config_set("maxmemory", "0")

        wait_until(place.is_done, "all goes on", timeout=RESUMES)
        assert consumer.stop() == 0
        assert not place.verdict().problems
