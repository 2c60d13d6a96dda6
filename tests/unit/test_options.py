"""The table of options: what fits, what is refused, and that each thing is said once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from huey.consumer.settings import OPTIONS, allocate_workers, process_only_reason, validate_settings
from huey.exceptions import ConfigurationError


def test_the_defaults_are_those_of_0_4_9_and_3_x() -> None:
    settings = validate_settings({})

    assert settings == {
        "workers": 1,
        "worker_type": "thread",
        "max_tasks": None,
        "max_memory": None,
        "health_check_interval": 10.0,
        "check_worker_health": True,
        "watchdog": 30.0,
        "queues": (),
        "flush_locks": False,
        "extra_locks": (),
        "periodic": True,
        "localtime": None,
        "periodic_task_interval": 60.0,
        "scheduler_interval": 1.0,
        "shutdown_timeout": 30.0,
        "graceful_signal": ("TERM", "INT"),
        "delay": 0.1,
        "max_delay": 10.0,
        "backoff": 1.15,
    }


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"workers": "4"}, "workers", 4),
        ({"worker_type": "PROCESS"}, "worker_type", "process"),
        ({"periodic": 0}, "periodic", False),
        ({"periodic": "no"}, "periodic", False),
        ({"utc": False}, "localtime", True),
        ({"utc": True}, "localtime", False),
        ({"initial_delay": 0.5}, "delay", 0.5),
        ({"max_tasks": None}, "max_tasks", None),
        ({"extra_locks": None}, "extra_locks", ()),
        ({"extra_locks": "a, b"}, "extra_locks", ("a", "b")),
        ({"extra_locks": ["a", "b"]}, "extra_locks", ("a", "b")),
        ({"extra_locks": "a"}, "flush_locks", True),
        ({"queues": "mail,video:3"}, "queues", (("mail", 1), ("video", 3))),
        ({"queues": {"mail": 1, "video": 3}}, "queues", (("mail", 1), ("video", 3))),
        ({"queues": [("a:b", 2)]}, "queues", (("a:b", 2),)),
        ({"graceful_signal": "sigint"}, "graceful_signal", ("INT",)),
        ({"graceful_signal": "int, term"}, "graceful_signal", ("TERM", "INT")),
        ({"scheduler_interval": 5}, "scheduler_interval", 5.0),
        ({"scheduler_interval": 0.5}, "scheduler_interval", 0.5),
        ({"shutdown_timeout": 0}, "shutdown_timeout", 0.0),
    ],
)
def test_a_value_is_read(given: dict[str, Any], name: str, value: Any) -> None:
    settings = validate_settings(given)

    assert settings[name] == value
    # What was checked can be handed on and checked again.
    assert validate_settings(settings) == settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("workers", 0, "whole number"),
        ("workers", 1.5, "whole number"),
        ("workers", True, "whole number"),
        ("workers", None, "whole number"),
        ("workers", 10**9, "10000"),
        ("worker_type", "greenlet", "greenlets are not supported; use thread .* or process"),
        ("worker_type", "gevent", "greenlets are not supported; use thread .* or process"),
        ("worker_type", "fibre", "expected thread, process or async"),
        ("backoff", 0.99, "at least 1"),
        ("delay", float("nan"), "seconds"),
        ("max_delay", float("inf"), "seconds"),
        ("scheduler_interval", 7, "divides 60"),
        ("scheduler_interval", 120, "divides 60"),
        ("scheduler_interval", 0, "divides 60"),
        ("max_tasks", 0, "whole number"),
        ("max_memory", "512M", "whole number"),
        ("health_check_interval", 0, "greater than 0"),
        ("graceful_signal", "HUP", "TERM,INT"),
        ("graceful_signal", "", "names"),
        ("extra_locks", "a,,b", "names"),
        ("queues", "a:0", "weight"),
        ("queues", "a:x", "weight"),
        ("queues", ":2", "weight"),
        ("queues", "a,a:2", "twice"),
        ("periodic", "perhaps", "1 or 0"),
        ("wrokers", 4, "did you mean 'workers'"),
        ("logfile", "x", "--logfile"),
    ],
)
def test_a_value_that_cannot_work_is_refused(name: str, value: Any, said: str) -> None:
    """ConfigurationError, which 3.x raises, is a ValueError too."""
    with pytest.raises(ConfigurationError, match=f"^{name}=.*{said}"):
        validate_settings({name: value})
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("name", ["max_tasks", "max_memory"])
def test_workers_are_not_renewed_if_the_dead_are_not_replaced(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=100 .*--disable-health-check"):
        validate_settings({name: 100, "check_worker_health": False})


def test_what_threads_of_a_program_cannot_do_is_told() -> None:
    assert process_only_reason(validate_settings({})) is None
    assert process_only_reason(validate_settings({"queues": "video:3"})) is None

    assert re.search(
        r"takes tasks from one queue.*huey\.on\('mail'\).*run\(\)", process_only_reason(validate_settings({"queues": "mail,video:3"})) or ""
    )
    for options in ({"worker_type": "process"}, {"max_tasks": 5}, {"max_memory": 500}):
        (name,) = options
        assert re.search(rf"^{name}=.*start\(\) runs tasks in threads.*call run\(\)", process_only_reason(validate_settings(options)) or "")


def test_a_mistyped_option_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"^worker=4: a consumer has no such option; did you mean 'workers'"):
        validate_settings({"worker": 4})
    with pytest.raises(ConfigurationError, match=r"^colour=1: a consumer has no such option; its options are backoff, "):
        validate_settings({"colour": 1})


def test_no_shutdown_timeout_is_no_limit_as_in_3_x() -> None:
    assert validate_settings({"shutdown_timeout": None})["shutdown_timeout"] == 0


@pytest.mark.parametrize(
    ("queues", "workers", "given"),
    [
        ((), 4, {"app": 4}),
        ("mail", 4, {"mail": 4}),
        ("mail,video", 4, {"mail": 2, "video": 2}),
        ("mail,video:3", 8, {"mail": 2, "video": 6}),
        ("mail,video:99", 3, {"mail": 1, "video": 2}),
        ("a,b,c", 3, {"a": 1, "b": 1, "c": 1}),
        ("a,b:2", 4, {"a": 1, "b": 3}),
    ],
)
def test_workers_are_shared_out_by_weight_and_at_least_one_each(queues: Any, workers: int, given: dict[str, int]) -> None:
    assert allocate_workers(validate_settings({"queues": queues, "workers": workers}), "app") == given


def test_fewer_workers_than_queues_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"workers=1 for 2 queues.*--workers 2 or more"):
        allocate_workers(validate_settings({"queues": "mail,video"}), "app")


def test_a_flag_means_one_thing() -> None:
    flags = [flag for option in OPTIONS for flag in option.flags]

    assert sorted(flags) == sorted(set(flags))
    # The union of 0.4.9 and 3.x (C20), and what is new.
    short = set("wkMcCfLpnuPslvqSdmbtg")
    assert {flag[1:] for flag in flags if not flag.startswith("--")} == short


def test_every_default_fits_its_own_option() -> None:
    for option in OPTIONS:
        if option.read is not None and option.default_text:
            assert option.read(option.default_text) == option.default
