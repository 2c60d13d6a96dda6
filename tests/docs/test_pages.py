"""The documentation is true: its code runs, what it prints is what the page says, its links lead somewhere, its tables are up to date.

Code on a page, in README.md and docs/:

    ```python               runs: all such blocks of a page, top to bottom, as one program in an empty folder
    ```python file=app.py   is written into that folder first, as this file
    ```python no-run        must compile
    ```console              a line "$ huey_consumer app.huey ..." starts this consumer while the page runs; others are not run

After `print(...)` a comment says what is printed. Comments that stand alone below a loop are its lines.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.helpers import Project, bare_environment, wait_until
from tools import docs

ROOT = Path(__file__).resolve().parents[2]
ALL_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What docs/internals quotes of the source is no program.
PAGES = [page for page in ALL_PAGES if "internals" not in page.parts]
FENCE = re.compile(r"^( *)```(.*)$")
PRINTED = re.compile(r"^\s*print\(.*\)\s+# (.+)$")
# A page that ends while its consumer runs would leave threads to the interpreter.
AT_END = "\nif 'consumer' in globals():\n    consumer.stop()\nif 'huey' in globals():\n    huey.close()\n"


class Block(NamedTuple):
    """A fenced block of a page."""

    info: str
    line: int
    """Of its first line of code, from 0."""
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def blocks(page: Path) -> Iterator[Block]:
    opened: Block | None = None
    for number, line in enumerate(page.read_text("utf-8").splitlines()):
        fence = FENCE.match(line)
        if opened is None and fence:
            indent, opened = len(fence[1]), Block(fence[2].strip(), number + 1, [])
        elif opened is not None and fence:
            yield opened
            opened = None
        elif opened is not None:
            opened.lines.append(line[indent:])
    assert opened is None, f"{page.name}: the block of line {opened and opened.line} is not closed"


def program(page: Path) -> str:
    """The runnable blocks, each line at the place it has on the page, so that a traceback names the page's lines."""
    lines = [""] * len(page.read_text("utf-8").splitlines())
    for block in blocks(page):
        if block.info == "python":
            lines[block.line : block.line + len(block.lines)] = block.lines
    return "\n".join(lines)


def promised(page: Path) -> list[str]:
    """What the comments of the runnable blocks say is printed, in order."""
    said = []
    for block in blocks(page):
        if block.info == "python":
            said += [found[1].strip() for line in block.lines if (found := PRINTED.match(line))]
            said += [line[2:].strip() for line in block.lines if line.startswith("# ")]
    return said


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_block_says_what_it_is() -> None:
    known = re.compile(r"python( no-run| file=[\w.]+)?|console|sh|ini|json|text|dockerfile|yaml")
    strange = [f"{named(page)}:{block.line} ```{block.info}" for page in PAGES for block in blocks(page) if not known.fullmatch(block.info)]
    assert strange == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_that_is_not_run_compiles(page: Path) -> None:
    for block in blocks(page):
        if block.info.startswith("python"):
            compile("\n" * block.line + block.text, named(page), "exec")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.info == "python" for block in blocks(page))], ids=named)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page: Path, project: Project) -> None:
    for block in blocks(page):
        if block.info.startswith("python file="):
            (project.home / block.info.partition("=")[2]).write_text(block.text, "utf-8")
    consumers = [
        project.start(*shlex.split(line)[2:])
        for block in blocks(page)
        if block.info == "console"
        for line in block.lines
        if line.startswith("$ huey_consumer ")
    ]

    # As a program of its own: compiled under the page's name, run as __main__ in the folder.
    code = f"import sys; sys.path.insert(0, ''); exec(compile(sys.stdin.read(), {named(page)!r}, 'exec'))"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=project.home,
        env=bare_environment(),
        input=program(page) + AT_END,
        capture_output=True,
        text=True,
        timeout=50,
    )

    told = ended.stderr + "".join(consumer.log for consumer in consumers)
    assert ended.returncode == 0, told
    assert ended.stdout.splitlines() == promised(page), told
    # A command that is asked before it has started ends by the signal.
    written = lambda: "".join(file.read_text("utf-8") for file in project.home.glob("*.log"))  # noqa: E731
    wait_until(lambda: all("queue " in consumer.log + written() for consumer in consumers), told=lambda: told)
    assert [consumer.stop() for consumer in consumers] == [0] * len(consumers)


def test_links_lead_somewhere() -> None:
    wrong = []
    for page in ALL_PAGES:
        text = "\n".join(line for line in page.read_text("utf-8").splitlines() if not line.startswith("    "))
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
            if ":" in target:
                continue
            to = (page.parent / target).resolve() if target else page
            if not to.exists() or (anchor and anchor not in anchors(to)):
                wrong.append(f"{named(page)}: {target}#{anchor}")
    assert wrong == []


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as they stand in links."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_reached_from_the_index() -> None:
    reached, new = set(), {ROOT / "docs" / "index.md"}
    while new:
        page = new.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)#\s:]+\.md)[^)]*\)", page.read_text("utf-8")):
            to = (page.parent / target).resolve()
            new |= {to} - reached if to.exists() else set()
    assert [named(page) for page in ALL_PAGES[1:] if page not in reached] == []


def test_the_made_parts_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


def test_stale_parts_are_found_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- made: options -->\nstale\n<!-- /made -->\nafter\n", "utf-8")
    monkeypatch.setattr(docs, "ROOT", tmp_path)

    assert docs.main(["--check"]) == 1
    assert "page.md: out of date" in capsys.readouterr().out
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0

    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- made: options -->\n| flag |")
    assert text.endswith("<!-- /made -->\nafter\n")
    assert "stale" not in text
