"""The promises are tested on what users have: an instance, a consumer in this process, or the consumer command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import redis

from huey.api import Huey
from tests.compat_049.document import CONFIG, TASKS, Load, on_server
from tests.support.djangos import DjangoProject
from tests.support.helpers import leaving_no_thread
from tests.support.redis_server import shared_server


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    with leaving_no_thread():
        yield


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """An empty server; the queues that a test makes go with it."""
    with redis.Redis(port=shared_server().port) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture
def load(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes a module of an example: ``load(text, name="tasks", **what_it_has_already)``."""
    made: list[ModuleType] = []

    def make(text: str, name: str = "tasks", **has: Any) -> Any:
        module = ModuleType(name)
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(on_server(dedent(text)), f"<{name}>", "exec"), vars(module))
        made.append(module)
        return module

    yield make
    for module in made:
        for value in vars(module).values():
            if isinstance(value, Huey):
                value.close()


@pytest.fixture
def beans(load: Load) -> Any:
    """The module of the getting started guide."""
    load(CONFIG, "config")
    return load(TASKS)


@pytest.fixture
def django(tmp_path: Path, server: redis.Redis) -> Iterator[DjangoProject]:
    project = DjangoProject(tmp_path)
    yield project
    project.close()
