"""The files that README shows work together: a web app enqueues, and shows the result when it is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_pages import ROOT, blocks
from tests.support.helpers import bare_environment

VISIT = """
from app import huey
from web import web

browser = web.test_client()
started = browser.post("/sums/1/2")
assert started.status_code == 202
page = f"/sums/{started.json['id']}"
assert browser.get(page).json == {"sum": None}
assert huey.execute(huey.dequeue()) == 3
assert browser.get(page).json == {"sum": 3}
assert browser.get(page).json == {"sum": 3}
huey.close()
"""


def test_the_web_app_of_the_readme_shows_a_result(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    for block in blocks(ROOT / "README.md"):
        if block.info.startswith("python file="):
            (tmp_path / block.info.partition("=")[2]).write_text(block.text, "utf-8")

    ended = subprocess.run([sys.executable, "-c", VISIT], cwd=tmp_path, env=bare_environment(), capture_output=True, text=True, timeout=25)

    assert ended.returncode == 0, ended.stderr
