"""Which function a name means: two different ones are refused where the second is declared, one that is made again takes its place."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from huey import Huey, MemoryHuey, crontab

CALL_OVERRIDES = "is taken.*name='"


@pytest.fixture
def huey() -> Huey:
    return MemoryHuey("which", immediate=True)


def logged(func: Callable[..., Any]) -> Callable[..., Any]:
    """As many a decorator: without functools.wraps."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return inner


def told(func: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(func)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return inner


def charge() -> str:
    return "charged"


def refund() -> str:
    return "refunded"


def times(factor: int) -> Callable[[int], int]:
    def multiply(number: int) -> int:
        return factor * number

    return multiply


def copied() -> list[Callable[..., Any]]:
    def mail(to: str) -> str:
        return f"one to {to}"

    first = mail

    def mail(to: str) -> str:  # type: ignore[no-redef]
        return f"another to {to}"

    return [first, mail]


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, number: int) -> int:
        return self.start + number

    def __call__(self, number: int) -> int:
        return self.start + number


DIFFERENT: dict[str, tuple[Callable[[], list[Any]], str | None]] = {
    "below a decorator without wraps": (lambda: [logged(charge), logged(refund)], None),
    "two lambdas": (lambda: [lambda: 1, lambda: 2], None),
    "two lambdas of one line and one text": (lambda: [lambda x: x + 1, lambda x: x + 1], None),
    "closures of one def": (lambda: [times(2), times(3)], None),
    "copies of a def": (copied, None),
    "methods of two objects": (lambda: [Counter(1).add, Counter(2).add], None),
    "two partials": (lambda: [partial(pow, 2), partial(pow, 3)], "power"),
    "two callable objects": (lambda: [Counter(1), Counter(2)], "count"),
    "two functions by one name": (lambda: [charge, refund], "pay"),
    "one bare, one below a decorator": (lambda: [charge, told(charge)], None),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_second_function_of_one_name_is_refused(kind: str, huey: Huey) -> None:
    make, name = DIFFERENT[kind]
    first, second = make()
    huey.task(name=name)(first)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task(name=name)(second)


def test_the_refusal_names_the_first_and_functools_wraps(huey: Huey) -> None:
    huey.task()(logged(charge))

    with pytest.raises(ValueError, match=r"logged\.<locals>\.inner \(.*test_which_function\.py, line \d+\).*functools\.wraps"):
        huey.task()(logged(refund))


def test_the_first_function_still_runs_after_a_refusal(huey: Huey) -> None:
    task = huey.task()(logged(charge))
    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task()(logged(refund))

    assert task().get() == "charged"


def test_two_locks_around_one_function_make_two_functions(huey: Huey) -> None:
    huey.task()(huey.lock_task("one")(charge))
    huey.task()(huey.lock_task("one")(charge))

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task()(huey.lock_task("two")(charge))


def test_context_tasks_of_two_functions_are_two(huey: Huey) -> None:
    lock = huey.lock_task("one")
    huey.context_task(lock, name="pay")(charge)
    huey.context_task(lock, name="pay")(charge)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.context_task(lock, name="pay")(refund)


def test_an_alias_is_a_name_as_any(huey: Huey) -> None:
    huey.task(aliases=["old"])(charge)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task(aliases=["old"])(refund)
    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task(name="old")(refund)
    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task(name="new", aliases=[f"{__name__}.charge"])(refund)


def test_a_task_and_a_periodic_task_need_two_names(huey: Huey) -> None:
    huey.task()(charge)

    with pytest.raises(ValueError, match=r"periodic task and as a task.*name='"):
        huey.periodic_task(crontab(minute="0"))(charge)

    huey.periodic_task(crontab(minute="0"), name="nightly")(charge)
    assert len(huey.registry) == 2


def test_a_task_below_periodic_task_needs_a_second_name(huey: Huey) -> None:
    task = huey.task()(charge)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.periodic_task(crontab(minute="0"))(task)

    nightly = huey.periodic_task(crontab(minute="0"), name="nightly")(task)
    assert nightly() == "charged"


def test_one_function_on_two_schedules_needs_two_names(huey: Huey) -> None:
    huey.periodic_task(crontab(minute="0"))(charge)
    huey.periodic_task(crontab(minute="0"))(charge)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.periodic_task(crontab(minute="30"))(charge)


def test_one_function_with_two_sets_of_options_needs_two_names(huey: Huey) -> None:
    huey.task(retries=1)(charge)
    huey.task(retries=2, priority=3)(charge)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        huey.task(retry_on=OSError)(charge)


def test_a_factory_that_is_called_twice_declares_one_function(huey: Huey) -> None:
    def make(huey: Huey) -> Any:
        @huey.task()
        @huey.lock_task("pay")
        def pay(amount: int = 1) -> int:
            return amount

        return pay

    make(huey)
    assert make(huey)(2).get() == 2
    assert make(MemoryHuey("other", immediate=True))(3).get() == 3


def test_every_instance_runs_its_own_closure() -> None:
    double, triple = (MemoryHuey(name, immediate=True).task()(times(n)) for name, n in (("two", 2), ("three", 3)))

    assert (double(5).get(), triple(5).get()) == (10, 15)


# -- modules that are executed again ----------------------------------------------------------------------------------------------------


class Module:
    """A module on disk that declares tasks with ``app_of_modules.huey``."""

    def __init__(self, folder: Path, huey: Huey) -> None:
        self.folder = folder
        self.host = ModuleType("app_of_modules")
        self.host.huey = huey  # type: ignore[attr-defined]

    def write(self, body: str, name: str = "reloaded_tasks") -> None:
        (self.folder / f"{name}.py").write_text(f"from app_of_modules import huey\n{body}", "utf-8")
        importlib.invalidate_caches()


@pytest.fixture
def module(tmp_path: Path, huey: Huey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Module(tmp_path, huey)
    monkeypatch.setitem(sys.modules, "app_of_modules", made.host)
    yield made
    for name in ("reloaded_tasks", "reloaded_tools", "other_place"):
        sys.modules.pop(name, None)


BODY = """
def logged(func):
    def inner(*args):
        return func(*args)
    return inner

@huey.task(aliases=["old"])
def add(a, b):
    return a + b

@huey.task()
@logged
def whole(a):
    return a
"""


def test_a_reload_of_a_module_replaces_its_functions(module: Module, huey: Huey, caplog: pytest.LogCaptureFixture) -> None:
    module.write(BODY)
    tasks = importlib.import_module("reloaded_tasks")

    module.write("# a line more\n" + BODY.replace("a + b", "a * b").replace('aliases=["old"]', ""))
    importlib.reload(tasks)

    assert tasks.add(3, 4).get() == 12
    assert tasks.whole(3).get() == 3
    assert len(huey.registry) == 2
    assert "old" not in huey.registry._aliases
    assert not caplog.records


def test_a_module_imported_again_replaces_its_functions(module: Module) -> None:
    module.write(BODY)
    importlib.import_module("reloaded_tasks")
    del sys.modules["reloaded_tasks"]

    module.write(BODY.replace("a + b", "a * b"))

    assert importlib.import_module("reloaded_tasks").add(3, 4).get() == 12


def test_a_reload_below_a_foreign_decorator_replaces_too(module: Module) -> None:
    (module.folder / "reloaded_tools.py").write_text(
        "def logged(func):\n    def inner(*args):\n        return func(*args)\n    return inner\n", "utf-8"
    )
    body = "from reloaded_tools import logged\n@huey.task()\n@logged\ndef add(a, b):\n    return a + b\n"
    module.write(body)
    tasks = importlib.import_module("reloaded_tasks")

    module.write(body.replace("a + b", "a * b"))
    importlib.reload(tasks)

    assert tasks.add(3, 4).get() == 12


def test_two_functions_of_a_reloaded_module_are_still_two(module: Module) -> None:
    module.write(BODY)
    tasks = importlib.import_module("reloaded_tasks")

    module.write(BODY + "@huey.task()\n@logged\ndef half(a):\n    return a / 2\n")
    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        importlib.reload(tasks)


def test_a_function_may_become_periodic_by_a_reload(module: Module, huey: Huey) -> None:
    module.write("@huey.task()\ndef tidy():\n    return 1\n")
    tasks = importlib.import_module("reloaded_tasks")

    module.write("from huey import crontab\n@huey.periodic_task(crontab(minute='0'))\ndef tidy():\n    return 2\n")
    importlib.reload(tasks)

    assert [wrapper() for wrapper in huey.registry.periodic] == [2]


def test_functions_of_two_files_by_one_name_are_two(module: Module) -> None:
    module.write("@huey.task(name='add')\ndef add(a, b):\n    return a + b\n")
    importlib.import_module("reloaded_tasks")

    module.write("@huey.task(name='add')\ndef add(a, b):\n    return a - b\n", "other_place")
    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        importlib.import_module("other_place")


# -- notebooks and prompts --------------------------------------------------------------------------------------------------------------

CELL = "@huey.task()\ndef add(a, b):\n    return a + b\n"


def run_cell(names: dict[str, Any], text: str, number: int) -> Any:
    exec(compile(text, f"<ipython-input-{number}>", "exec"), names)
    return names.get("add")


@pytest.mark.parametrize("text", [CELL, CELL.replace("+", "*")])
def test_a_notebook_cell_run_again_replaces_its_function(
    text: str, huey: Huey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    names = {"__name__": "__main__", "huey": huey}
    run_cell(names, CELL, 1)

    with caplog.at_level(logging.WARNING, logger="huey"):
        add = run_cell(names, text, 2)

    assert add(3, 4).get() == eval(text.rpartition("return ")[2], {"a": 3, "b": 4})
    assert [record.getMessage() for record in caplog.records] == [
        "the task __main__.add is declared again: the new function replaces the old one"
    ]


def test_two_notebook_functions_without_wraps_are_two(huey: Huey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    names = {"__name__": "__main__", "huey": huey}
    run_cell(names, "def logged(func):\n    def inner(*args):\n        return func(*args)\n    return inner\n", 1)
    run_cell(names, "@huey.task()\n@logged\ndef charge():\n    return 1\n", 2)

    with pytest.raises(ValueError, match=CALL_OVERRIDES):
        run_cell(names, "@huey.task()\n@logged\ndef refund():\n    return 2\n", 3)
