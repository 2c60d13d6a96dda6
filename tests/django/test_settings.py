"""What settings.HUEY means, and what is wrong with it."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.test import override_settings

import huey.djhuey
import huey.djhuey.settings as project
from huey import MemoryHuey, SqliteHuey
from huey.djhuey.outbox import Outbox
from huey.djhuey.settings import WrongSetting, consumer_options, resolved
from tests.support.helpers import running

IN_MEMORY = {"huey_class": "huey.MemoryHuey"}


def test_C22_a_dict_without_backend_names_a_class(tmp_path: Path) -> None:
    made = resolved(
        {"huey_class": "huey.SqliteHuey", "name": "mine", "connection": {"filename": tmp_path / "q.db"}, "store_none": True}
    ).huey

    assert isinstance(made, SqliteHuey)
    assert (made.name, made.store_none, made.storage.filename) == ("mine", True, str(tmp_path / "q.db"))  # type: ignore[attr-defined]


def test_a_class_may_be_given_itself() -> None:
    assert isinstance(resolved({"huey_class": MemoryHuey}).huey, MemoryHuey)


def test_S144_location_is_the_file(tmp_path: Path) -> None:
    setting = {"backend": "huey.backends.sqlite_backend", "name": "mine", "connection": {"location": tmp_path / "q.db"}}

    assert resolved(setting).huey.storage.filename == str(tmp_path / "q.db")  # type: ignore[attr-defined]


def test_without_a_file_it_lies_beside_manage_py(tmp_path: Path) -> None:
    with override_settings(BASE_DIR=tmp_path):
        assert resolved({"huey_class": "huey.SqliteHuey"}).huey.storage.filename == str(tmp_path / "huey.db")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("databases", "name"),
    [
        ({"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}}, "shop"),
        ({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, "huey"),
        ({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path("/srv/shop/db.sqlite3")}}, "shop-db.sqlite3"),
        ({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}, "db.sqlite3"),
        ({}, "huey"),
    ],
    ids=["named", "in memory", "a file", "a file here", "none"],
)
def test_S142_the_name_is_that_of_the_default_database(databases: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DATABASES", databases)

    assert resolved(IN_MEMORY).huey.name == name


def test_blocking_is_for_redis_and_harmless_elsewhere() -> None:
    assert isinstance(resolved({**IN_MEMORY, "blocking": True}).huey, MemoryHuey)


def test_C35_the_form_of_3_x_is_immediate_while_debug_is_on() -> None:
    with override_settings(DEBUG=True):
        assert resolved(IN_MEMORY).huey.immediate  # type: ignore[attr-defined]
        assert not resolved({**IN_MEMORY, "immediate": False}).huey.immediate  # type: ignore[attr-defined]
    assert not resolved(IN_MEMORY).huey.immediate  # type: ignore[attr-defined]


def test_C35_the_form_of_0_4_9_is_not(tmp_path: Path) -> None:
    with override_settings(DEBUG=True):
        made = resolved({"backend": "huey.backends.sqlite_backend", "connection": {"location": tmp_path / "q.db"}}).huey

    assert not getattr(made, "immediate", False)
    assert not made.always_eager


def test_secret_key_signs_messages_and_its_fallbacks_verify(tmp_path: Path) -> None:
    setting = {"huey_class": "huey.SqliteHuey", "name": "mine", "filename": tmp_path / "q.db"}
    with override_settings(SECRET_KEY="old"):
        data = resolved(setting).huey.codec.encode("task", "1", ((1,), None))
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        assert resolved(setting).huey.codec.decode("task", "1", data) == ((1,), {})
    with override_settings(SECRET_KEY="new"), pytest.raises(Exception, match="signature"):
        resolved(setting).huey.codec.decode("task", "1", data)


def test_huey_secret_and_a_secret_in_the_settings_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MemoryHuey("mine", secret="given").codec.encode("task", "1", ((), None))

    assert resolved({**IN_MEMORY, "name": "mine", "secret": "given"}).huey.codec.decode("task", "1", data) == ((), {})
    monkeypatch.setenv("HUEY_SECRET", "given")
    assert resolved({**IN_MEMORY, "name": "mine"}).huey.codec.decode("task", "1", data) == ((), {})


def test_a_process_without_secret_key_can_import_tasks() -> None:
    with override_settings(SECRET_KEY=""):
        assert resolved(IN_MEMORY).huey.codec.encode("task", "1", ((), None))


def test_the_3_x_module_has_the_instance_of_the_settings() -> None:
    import huey.contrib.djhuey

    assert huey.djhuey.HUEY is huey.contrib.djhuey.HUEY is project.current().huey
    assert isinstance(huey.djhuey.HUEY.outbox, Outbox)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = huey.djhuey.nonsense
    with pytest.raises(AttributeError, match=r"huey\.contrib\.djhuey.*nonsense"):
        _ = huey.contrib.djhuey.nonsense


def test_the_verbs_of_the_module_are_those_of_the_instance() -> None:
    assert huey.djhuey.revoke_by_id == huey.djhuey.HUEY.revoke_by_id
    assert "db_task" in dir(huey.djhuey)
    assert {"HUEY", "enqueue", "db_periodic_task"} <= set(dir(huey.djhuey))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "task",
            "periodic_task",
            "lock_task",
            "enqueue",
            "restore",
            "restore_all",
            "restore_by_id",
            "revoke",
            "revoke_all",
            "revoke_by_id",
        ),
        *("is_revoked", "on_startup", "on_shutdown", "pre_execute", "post_execute", "signal", "disconnect_signal", "result", "scheduled"),
    ],
)
def test_the_module_has_the_names_of_3_x(name: str) -> None:
    assert getattr(huey.djhuey, name) == getattr(huey.djhuey.HUEY, name)


def test_a_module_of_a_user_gives_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_parts")
    monkeypatch.setitem(sys.modules, "own_parts", module)

    with pytest.raises(WrongSetting, match=r"own_parts.*Components"):
        resolved({"backend": "own_parts"})
    module.Components = (None, None, None, None)  # type: ignore[attr-defined]
    with pytest.raises(WrongSetting, match="the first of which is a queue"):
        resolved({"backend": "own_parts"})


def test_S143_a_queue_of_a_user_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from huey.backends.dummy import DummyDataStore, DummyQueue, DummySchedule

    class OwnQueue(DummyQueue):  # type: ignore[misc]
        """A queue of a project."""

    module = ModuleType("own_parts")
    module.Components = (OwnQueue, DummyDataStore, DummySchedule, None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_parts", module)

    huey = resolved({"backend": "own_parts", "name": "own"}).huey
    result = huey.task(name="add")(lambda a, b: a + b)(1, 2)

    assert type(huey.queue).__name__ == "OwnQueue"  # type: ignore[attr-defined]
    with running(huey):
        assert result.get(blocking=True, timeout=10) == 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (5, "HUEY=5: expected a dict"),
        ({"huey_class": "huey.NoHuey"}, "huey.NoHuey"),
        ({"huey_class": "no.such.module"}, "no.such.module"),
        ({"huey_class": dict}, "not a subclass of Huey"),
        ({**IN_MEMORY, "retries": 5}, "retries"),
        ({**IN_MEMORY, "consumer": {"wokers": 1}}, r"HUEY\['consumer'\]: wokers"),
        ({**IN_MEMORY, "consumer": 5}, r"HUEY\['consumer'\]=5: expected a dict"),
        ({**IN_MEMORY, "connection": "localhost"}, r"HUEY\['connection'\]='localhost'"),
        ({**IN_MEMORY, "consumer_options": {}}, "'backend'"),
        ({**IN_MEMORY, "enqueue_on_commit": "other"}, "alias"),
        ({"backend": "nowhere"}, "nowhere"),
        ({"backend": 5}, "5"),
        ({"backend": "huey.backends.sqlite_backend", "workers": 3}, r"HUEY\['workers'\]"),
        ({"backend": "huey.backends.sqlite_backend", "connection": {"location": ":memory:"}}, "MemoryHuey"),
        ({"backend": "huey.backends.sqlite_backend", "consumer_options": {"workers": 0}}, "workers"),
        ({"backend": "huey.backends.sqlite_backend", "consumer_options": {"loglevel": "LOUD"}}, "LOUD"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_told_with_its_name(setting: Any, said: str) -> None:
    with pytest.raises(WrongSetting, match=said):
        resolved(setting)


@pytest.mark.parametrize("key", ["consumer", "consumer_options"])
def test_S147_consumer_options_have_both_names(key: str) -> None:
    given = {
        "workers": 4,
        "periodic": False,
        "initial_delay": 0.2,
        "backoff": 2,
        "max_delay": 5,
        "utc": False,
        "scheduler_interval": 1,
        "periodic_task_interval": 60,
        "loglevel": logging.DEBUG,
        "logfile": "tasks.log",
        "simple_log": True,
        "verbose": None,
    }

    assert consumer_options(given, key) == {
        "workers": 4,
        "periodic": False,
        "delay": 0.2,
        "backoff": 2.0,
        "max_delay": 5.0,
        "localtime": True,
        "scheduler_interval": 1.0,
        "periodic_task_interval": 60.0,
        "level": logging.DEBUG,
        "logfile": "tasks.log",
        "simple": True,
    }


@pytest.mark.parametrize(
    ("setting", "is_local"),
    [
        ({"utc": False}, True),
        ({"utc": True}, False),
        ({}, False),
        ({"utc": False, "consumer": {"utc": True}}, False),
        ({"utc": False, "consumer": {"utc": None}}, True),
        ({"consumer": {"utc": False}}, True),
    ],
)
def test_the_consumer_has_the_clock_of_the_instance(setting: dict[str, Any], is_local: bool) -> None:
    made = resolved({**IN_MEMORY, **setting})

    assert made.huey.create_consumer(**made.consumer).localtime is is_local


# manage.py check


def messages_of(id: str) -> list[str]:
    return [message.msg for message in checks.run_checks() if message.id == id]


def test_check_names_a_wrong_setting() -> None:
    with override_settings(HUEY=5, TASKS={}):
        assert "HUEY=5" in messages_of("huey.E001")[0]


@pytest.mark.parametrize("connection", [{"filename": "q.db"}, {"connection": {"filename": "q.db"}}], ids=["flat", "nested"])
def test_check_warns_of_a_file_in_the_current_folder(connection: dict[str, Any], tmp_path: Path) -> None:
    with override_settings(HUEY={"huey_class": "huey.SqliteHuey", **connection}, TASKS={}):
        assert len(messages_of("huey.W001")) == 1
    with override_settings(HUEY={"huey_class": "huey.SqliteHuey", "filename": tmp_path / "q.db"}, TASKS={}):
        assert messages_of("huey.W001") == []


def test_check_warns_of_immediate_in_production() -> None:
    with override_settings(HUEY={**IN_MEMORY, "immediate": True}):
        assert len(messages_of("huey.W002")) == 1


def test_check_finds_nothing_in_a_setting_that_works() -> None:
    assert [message for message in checks.run_checks() if message.id.startswith("huey.")] == []
