"""What a module that is run as a program is called by those who import it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from huey.task.identity import module_of, name_of_program
from tests.support.helpers import SOURCE, bare_environment

PROGRAM = """
from huey import SqliteHuey

huey = SqliteHuey("case", filename={db!r})

@huey.task()
def add(a, b):
    return a + b

if __name__ == "__main__":
    print(add.name)
    add(1, 2)
"""
TOLD = "a consumer in another process cannot find it"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, path: str) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PROGRAM.format(db=str(folder / "queue.db")), "utf-8")
    return file


def package(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").touch()


@pytest.mark.parametrize(
    ("spec", "file", "packages", "name"),
    [
        (None, "app.py", [], "app"),
        (None, "scripts/app.py", [], "app"),
        (None, "shop/tasks/app.py", ["shop", "shop/tasks"], "shop.tasks.app"),
        (None, "tools/shop/app.py", ["tools/shop"], "shop.app"),
        (None, "shop/__main__.py", ["shop"], "shop.__main__"),
        (None, "shop/__main__.py", [], None),
        (None, "app.pyz/__main__.py", [], None),
        (None, "my-app.py", [], None),
        (None, "01_app.py", [], None),
        (None, "bin/app", [], None),
        (None, None, [], None),
        ("shop.app", "shop/app.py", [], "shop.app"),
        ("shop.__main__", "shop/__main__.py", [], "shop.__main__"),
        ("__main__", "app.py", [], "app"),
        ("__mp_main__", "app.py", [], "app"),
    ],
)
def test_the_name_of_a_program(spec: str | None, file: str | None, packages: list[str], name: str | None, folder: Path) -> None:
    package(folder, *packages)
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None if spec is None else ModuleSpec(spec, None)}
    if file is not None:
        namespace["__file__"] = str(folder / file)

    assert name_of_program(namespace) == name


def test_a_package_around_the_folder_is_not_part_of_the_name(folder: Path) -> None:
    (folder / "__init__.py").touch()

    assert name_of_program({"__file__": str(folder / "app.py")}) == "app"


def test_a_function_of_a_spawned_process_has_the_same_name(folder: Path) -> None:
    for name in ("__main__", "__mp_main__"):
        names: dict[str, Any] = {"__name__": name, "__file__": str(folder / "app.py")}
        exec(compile("def add(): ...", str(folder / "app.py"), "exec"), names)

        assert module_of(names["add"]) == "app"


def test_what_is_typed_at_a_prompt_is_not_of_the_script(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(folder / "app.py")}
    exec(compile("def add(): ...", "<stdin>", "exec"), names)

    assert module_of(names["add"]) == "__main__"


def test_a_module_that_is_imported_keeps_its_name() -> None:
    assert module_of(module_of) == "huey.task.identity"
    assert module_of(len) == "builtins"
    assert module_of([].append) is None


def run(folder: Path, *arguments: str, text: str | None = None) -> tuple[str, str]:
    environment = {**bare_environment(), "PYTHONPATH": str(SOURCE)}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, input=text, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip(), ended.stderr


def test_importable_programs_agree_with_their_importers(folder: Path) -> None:
    write(folder, "app.py")
    write(folder, "shop/jobs.py")
    write(folder, "shop/__main__.py")
    package(folder, "shop")

    assert run(folder, "app.py") == ("app.add", "")
    assert run(folder, str(folder / "app.py")) == ("app.add", "")
    assert run(folder, "shop/jobs.py") == ("shop.jobs.add", "")
    assert run(folder, "-m", "shop.jobs") == ("shop.jobs.add", "")
    assert run(folder, "-m", "shop") == ("shop.__main__.add", "")
    assert run(folder, "-c", "import runpy; runpy.run_path('app.py', run_name='__main__')") == ("app.add", "")
    assert run(folder, "-m", "cProfile", "-o", "profile", "app.py") == ("app.add", "")


def test_where_no_name_can_be_known_the_producer_is_warned_once(folder: Path) -> None:
    write(folder, "my-app.py")
    archive = folder / "app.pyz"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(write(folder, "source.py"), "__main__.py")

    for arguments, text in ((["my-app.py"], None), ([str(archive)], None), (["-"], write(folder, "in.py").read_text() + "    add(3, 4)\n")):
        name, warning = run(folder, *arguments, text=text)

        assert name == "__main__.add"
        assert warning.count(TOLD) == 1


def test_a_name_of_its_own_needs_no_warning(folder: Path) -> None:
    file = write(folder, "my-app.py")
    file.write_text(file.read_text().replace("task()", "task(name='shop.add')"), "utf-8")

    assert run(folder, "my-app.py") == ("shop.add", "")
