"""The command and a server that is not there yet, or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from huey import RedisHuey
from tests.support.helpers import Project, wait_until
from tests.support.redis_server import Server

MAIN = """from huey import RedisHuey

huey = RedisHuey("app", {options})


@huey.task(name="add")
def add(a, b):
    return a + b
"""


@pytest.mark.timeout(60)
def test_a_consumer_waits_for_its_server_and_can_be_stopped(project: Project) -> None:
    with Server() as server:
        server.stop()
        (Path(project.home) / "main.py").write_text(MAIN.format(options=f"port={server.port}"), "utf-8")
        waiting, early = project.start("main.huey"), project.start("main.huey")
        for command in (waiting, early):
            wait_until(lambda command=command: "retrying until it is available" in command.log, timeout=20)  # type: ignore[misc]
        assert early.stop() == 0

        server.start()
        wait_until(lambda: "storage available after" in waiting.log, timeout=20)
        huey = RedisHuey("app", port=server.port)
        assert huey.task(name="add")(lambda a, b: 0)(3, 4).get(blocking=True, timeout=20) == 7
        huey.storage.close()
        assert waiting.stop() == 0
        assert waiting.log.count("retrying until it is available") == 1


@pytest.mark.timeout(60)
def test_a_server_that_refuses_the_password_is_not_waited_for(project: Project) -> None:
    with Server(None, "--requirepass", "right") as server:
        (Path(project.home) / "main.py").write_text(MAIN.format(options=f"port={server.port}, password='wrong'"), "utf-8")
        command = project.start("main.huey")

        assert command.ended(20) == 1
        assert "password" in command.log
        assert "waits for it" not in command.log
