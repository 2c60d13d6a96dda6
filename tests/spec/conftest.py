"""The promises are tested on what users have: an instance, a consumer in this process, or the consumer command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Project, leaving_no_thread


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    with leaving_no_thread():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An application of its own folder, and the consumers started on it."""
    project = Project(tmp_path)
    yield project
    project.close()
