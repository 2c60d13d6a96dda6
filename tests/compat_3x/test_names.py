"""Names that programs of 3.x import (section 1), and what is said of those that are not here."""

from __future__ import annotations

from importlib import import_module

import pytest

import huey
from huey.cron import Crontab

NAMES = {
    "huey": "Huey RedisHuey PriorityRedisHuey RedisExpireHuey PriorityRedisExpireHuey SqliteHuey CySqliteHuey MemoryHuey FileHuey "
    "BlackHoleHuey group chord crontab CancelExecution RetryTask TaskException Error SKIPPED __version__",
    "huey.api": "Huey RedisHuey PriorityRedisHuey RedisExpireHuey PriorityRedisExpireHuey SqliteHuey CySqliteHuey MemoryHuey FileHuey "
    "BlackHoleHuey TaskWrapper Task PeriodicTask Result ResultGroup ChordResult TaskLock RateLimit group chord crontab CancelExecution "
    "RetryTask",
    "huey.exceptions": "HueyException ConfigurationError TaskLockedException ResultTimeout TaskTimeout RateLimitExceeded CancelExecution "
    "RetryTask TaskException",
    "huey.signals": "SIGNAL_CANCELED SIGNAL_COMPLETE SIGNAL_ENQUEUED SIGNAL_ERROR SIGNAL_EXECUTING SIGNAL_EXPIRED SIGNAL_INTERRUPTED "
    "SIGNAL_LOCKED SIGNAL_RATE_LIMITED SIGNAL_RETRYING SIGNAL_REVOKED SIGNAL_SCHEDULED SIGNAL_TIMEOUT",
    "huey.serializer": "Serializer SignedSerializer",
    "huey.consumer": "Consumer",
    "huey.constants": "EmptyData WORKER_THREAD WORKER_PROCESS WORKER_GREENLET WORKER_TYPES",
    "huey.registry": "TaskRegistry registry",
    "huey.utils": "EmptyData Error",
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names.split()])
def test_a_name_of_3_x_is_where_it_was(module: str, name: str) -> None:
    assert getattr(import_module(module), name) is not None


@pytest.mark.parametrize("name", ["PostgresHuey"])
@pytest.mark.parametrize("module", ["huey", "huey.api"])
def test_a_name_that_is_to_come_says_so_when_it_is_imported(module: str, name: str) -> None:
    with pytest.raises(ImportError, match=f"^{name} of huey 3.x .* is not in this release: .*come"):
        exec(f"from {module} import {name}")
    with pytest.raises(ImportError, match="is not in this release"):
        getattr(import_module(module), name)


@pytest.mark.parametrize("module", ["flask_admin", "helpers", "mini", "sql_huey", "stats", "valkey_glide"])
@pytest.mark.parametrize("way", ["import huey.contrib.{}", "from huey.contrib import {}", "from huey.contrib.{} import anything"])
def test_a_module_that_is_not_here_says_what_there_is_instead(module: str, way: str) -> None:
    with pytest.raises(ImportError, match=rf"^huey\.contrib\.{module} of huey 3\.x is not in this release: "):
        exec(way.format(module))


@pytest.mark.parametrize("module", ["huey", "huey.api"])
def test_a_name_that_no_huey_has_is_an_error_as_ever(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nonsense'"):
        _ = import_module(module).nonsense
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec(f"from {module} import nonsense")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("then", r"f\.s\(1, 2\)\.then\(g\)"),
        ("error", "signal"),
        ("delay", r"delay=5"),
        ("apply_async", r"\.schedule\("),
        ("si", r"f\.s\(1, 2\)"),
    ],
)
def test_unknown_verbs_of_a_task_say_what_it_is_called_here(name: str, advice: str) -> None:
    add = huey.MemoryHuey("names").task(name="add")(lambda a, b: a + b)

    with pytest.raises(AttributeError, match=f"'add' has no attribute '{name}': .*{advice}"):
        getattr(add, name)
    assert not hasattr(add, "nonsense")


def test_a_schedule_has_a_code_object_for_instrumentations() -> None:
    assert huey.crontab(minute="5").__code__ is Crontab().__code__
    assert huey.crontab(tz="Europe/Berlin").__code__ is not Crontab().__code__


@pytest.mark.parametrize(
    ("name", "advice"),
    [("state", "result.status"), ("ready", "is_ready"), ("result", r"result\.get"), ("successful", "succeeded"), ("wait", "blocking=True")],
)
def test_a_member_of_other_handles_says_what_to_use_instead(name: str, advice: str) -> None:
    result = huey.MemoryHuey("app").task()(lambda: 1)()

    with pytest.raises(AttributeError, match=f"'Result' has no attribute '{name}': .*{advice}"):
        getattr(result, name)
    assert not hasattr(result, name)
