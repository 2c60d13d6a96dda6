"""Places that are cleaned up, and figures that are shown also when a test passes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.commands import Commanded
from tests.crash.tools import Place


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[Any]:
    """Makes a ``Place``; its processes end with the test."""
    places = []

    def make(**options: Any) -> Place:
        folder = tmp_path / f"place-{len(places)}"
        folder.mkdir()
        places.append(Place(folder, **options))
        return places[-1]

    yield make
    for place in places:
        place.clean_up()


@pytest.fixture
def place(make_place: Any) -> Any:
    return make_place()


@pytest.fixture
def make_commanded(tmp_path: Path) -> Iterator[Any]:
    """Makes a ``Commanded``; its processes end with the test."""
    places = []

    def make(**options: Any) -> Commanded:
        folder = tmp_path / f"commanded-{len(places)}"
        folder.mkdir()
        places.append(Commanded(folder, **options))
        return places[-1]

    yield make
    for place in places:
        place.clean_up()


@pytest.fixture
def commanded(make_commanded: Any) -> Any:
    return make_commanded()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Any:
    """Prints a figure past pytest's capture, and writes it into the junit report."""

    def show(text: object) -> None:
        request.node.user_properties.append(("figure", str(text)))
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return show


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Any]:
    """Makes a disk of some MiB: ``small_disk(6)``."""
    places = []

    def make(size: Any) -> Any:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "huey-test", disk], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("this user may not mount a small disk")
        places.append(disk)
        return disk

    yield make
    for disk in places:
        subprocess.run(["umount", "--lazy", disk], check=True)
