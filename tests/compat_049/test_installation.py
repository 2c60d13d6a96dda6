"""Section A: what can be imported, from where, and what it needs."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import huey.api
import huey.exceptions
from huey import RedisHuey
from tests.support.helpers import SOURCE, Project, bare_environment
from tests.support.redis_server import shared_server

BARE = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})

import huey
from huey.api import AsyncData

queue = huey.{{kind}}
@queue.task()
def count(text):
    return len(text)

count('abc')
assert len(queue) == 1, len(queue)

outside = [name for name in sys.modules if 'site-packages' in (getattr(sys.modules[name], '__file__', None) or '')]
assert not outside, outside
"""


@pytest.mark.parametrize("kind", ["MemoryHuey('app')", "SqliteHuey('app', filename='queue.db')"])
def test_S1_nothing_but_the_standard_library_is_needed(kind: str, tmp_path: Path) -> None:
    code = BARE.format(kind=kind)

    # No site-packages, no environment: nothing that was installed can be found.
    ended = subprocess.run([sys.executable, "-S", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20)

    assert (ended.returncode, ended.stderr) == (0, "")


WITHOUT_HIREDIS = """
import sys
sys.modules['hiredis'] = None
from huey import RedisHuey

huey = RedisHuey('slow but well', port=%d)
add = huey.task()(lambda a, b: a + b)
first, later = add(1, 2), add.schedule(args=(3, 4), delay=0.05)
consumer = huey.create_consumer(workers=2)
consumer.start()
print(first.get(blocking=True, timeout=10), later.get(blocking=True, timeout=10))
consumer.stop()
huey.flush()
huey.close()
"""


def test_S2_the_redis_storage_needs_nothing_but_the_client() -> None:
    code = WITHOUT_HIREDIS % shared_server().port

    ended = subprocess.run([sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True, timeout=25)

    assert (ended.stdout, ended.stderr) == ("3 7\n", "")


def test_S3_redis_huey_is_imported_from_the_package() -> None:
    from huey import RedisHuey, crontab

    assert issubclass(RedisHuey, huey.api.Huey)
    assert callable(crontab())


def test_S1_redis_huey_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(RuntimeError, match=r"redis.*pip install"):
        RedisHuey("app")


def test_S4_huey_is_imported_from_the_package() -> None:
    from huey import Huey, crontab

    assert huey.api.Huey is Huey
    assert huey.api.crontab is crontab


def test_S5_the_module_api_has_the_names_of_the_documents() -> None:
    from huey.api import AsyncData, Huey, crontab

    assert callable(crontab())
    assert isinstance(Huey, type)
    assert huey.api.Result is AsyncData


def test_S5_a_handle_lives_in_the_module_api(huey: huey.api.Huey) -> None:
    add = huey.task()(lambda a, b: a + b)

    handle = add(1, 2)

    assert type(handle) is sys.modules["huey.api"].AsyncData


def test_S8_a_result_that_comes_too_late_has_its_own_exception() -> None:
    from huey.exceptions import DataStoreTimeout, HueyException, QueueException, ResultTimeout

    assert ResultTimeout is DataStoreTimeout
    assert issubclass(DataStoreTimeout, QueueException)
    assert issubclass(DataStoreTimeout, HueyException)


@pytest.mark.parametrize(
    "name",
    [
        "QueueWriteException",
        "QueueReadException",
        "QueueRemoveException",
        "DataStoreGetException",
        "DataStorePutException",
        "ScheduleAddException",
        "ScheduleReadException",
    ],
)
def test_S9_storage_troubles_are_queue_exceptions(name: str) -> None:
    assert issubclass(getattr(huey.exceptions, name), huey.exceptions.QueueException)


def test_S9_a_queue_exception_is_one_of_huey() -> None:
    assert issubclass(huey.exceptions.QueueException, huey.exceptions.HueyException)


def test_S11_the_special_value_for_nothing_there() -> None:
    from huey.utils import EmptyData

    assert isinstance(EmptyData, type)
    assert importlib.import_module("huey.constants").EmptyData is EmptyData


@pytest.mark.parametrize("script", ["huey_consumer.py", "huey_consumer"])
def test_S12_the_consumer_script_has_both_spellings(script: str, tmp_path: Path) -> None:
    found = shutil.which(script, path=str(Path(sys.executable).parent))
    assert found, f"{script} is not installed beside {Path(sys.executable).name}"

    ended = subprocess.run([found, "--help"], cwd=tmp_path, env=bare_environment(), capture_output=True, text=True, timeout=20)

    assert ended.returncode == 0
    assert "--logfile" in ended.stdout


def test_S13_the_instance_is_the_configuration(project: Project) -> None:
    project.write(path="path/__init__.py")
    project.write("@huey.task()\ndef add(a, b):\n    return a + b\n\n\nhuey_instance = huey\n", path="path/to.py")

    consumer = project.start("path.to.huey_instance")

    assert project.task("path.to.add")(1, 2).get(blocking=True, timeout=10) == 3
    assert consumer.stop() == 0
