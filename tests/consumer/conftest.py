"""The consumer is tested part by part, and as the command that users run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An application in a folder of its own, and the consumers started on it."""
    project = Project(tmp_path)
    yield project
    project.close()
