"""The pages about testing are true: their programs and suites run, as a user has them in a folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_pages import ROOT, blocks
from tests.testing.test_pytest_plugin import run_pytest

APPLICATIONS, STORAGES = (ROOT / "docs" / "how-to" / f"{name}.md" for name in ("testing", "test-your-own-storage"))


def files_of(page: Path) -> dict[str, str]:
    """The files of a page by name; what is written as ini belongs into pyproject.toml."""
    found = {block.info.partition("file=")[2]: block.text for block in blocks(page) if block.info.startswith(("python file=", "ini"))}
    return {name or "pyproject.toml": text for name, text in found.items()}


def test_the_suite_of_the_page_passes_and_leaves_no_file(tmp_path: Path) -> None:
    files = files_of(APPLICATIONS)

    ended = run_pytest(tmp_path, files)

    assert "11 passed" in ended
    assert {path.name for path in tmp_path.iterdir()} == set(files)


@pytest.mark.timeout(180)
def test_the_storage_of_the_page_passes_the_contract(tmp_path: Path) -> None:
    ended = run_pytest(tmp_path, files_of(STORAGES), "-n", "2")

    assert re.search(r"^\d{3} passed", ended, re.MULTILINE), ended[-3000:]
