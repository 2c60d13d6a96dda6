"""The house gates find what they are for, and pass what is fine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools import gates, words


@pytest.fixture
def house(tmp_path: Path) -> Any:
    """Writes the files of a small project; returns its root."""

    def build(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path

    return build


def facts(problems: Any) -> Any:
    return [f"{p.where}:{p.line} {p.fact}" for p in problems]


def test_a_long_function_is_found(house: Any) -> None:
    root = house({"src/huey/a.py": "def f():\n" + "    x = 1\n" * 60})
    assert facts(gates.sizes(root)) == ["src/huey/a.py:1 f() has 61 lines, 60 at most"]


def test_a_long_file_is_found(house: Any) -> None:
    root = house({"src/huey/a.py": "x = 1\n" * 451, "src/huey/b.py": "x = 1\n" * 450})
    assert facts(gates.sizes(root)) == ["src/huey/a.py:451 451 lines, 450 at most"]


def test_a_long_test_file_and_a_long_test_name_are_found(house: Any) -> None:
    long = "test_" + "a" * 56
    root = house({"tests/test_a.py": "x = 1\n" * 601, "tests/unit/test_b.py": f"class TestB:\n    def {long}(self): ...\n"})
    assert facts(gates.tests(root)) == [
        "tests/test_a.py:601 601 lines, 600 at most",
        f"tests/unit/test_b.py:2 {long} has 61 letters, 60 at most",
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import time\ntime.sleep(1)", "time.sleep"),
        ("import time as t\nt.monotonic()", "time.monotonic"),
        ("from time import time as now\nnow()", "time.time"),
        ("import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
        ("from datetime import datetime\nf = datetime.utcnow", "datetime.datetime.utcnow"),
        ("import random\nrandom.random()", "random.random"),
        ("from uuid import uuid4\nuuid4()", "uuid.uuid4"),
        ("import os\nos.urandom(8)", "os.urandom"),
    ],
)
def test_time_and_chance_from_the_machine_are_found(house: Any, code: Any, name: Any) -> None:
    root = house({"src/huey/a.py": code})
    assert facts(gates.clock(root)) == [f"src/huey/a.py:2 uses {name}"]


def test_the_clock_itself_and_what_is_handed_in_are_fine(house: Any) -> None:
    root = house({"src/huey/runtime/clock.py": "import time\ntime.time()", "src/huey/a.py": "def f(clock):\n    clock.sleep(clock.time())"})
    assert gates.clock(root) == []


def test_a_broad_except_needs_a_reason_and_never_passes(house: Any) -> None:
    code = (
        "try: f()\nexcept Exception:\n    pass\n"
        "try: f()\nexcept:\n    g()\n"
        "try: f()\nexcept Exception as e:\n    g(e)\n"
        "try: f()\nexcept Exception as e:  # user code may raise anything\n    g(e)\n"
        "try: f()\nexcept BaseException:\n    g()\n    raise\n"
        "try: f()\nexcept OSError:\n    pass\n"
    )
    assert facts(gates.excepts(house({"src/huey/a.py": code}))) == [
        "src/huey/a.py:2 broad except that does nothing",
        "src/huey/a.py:5 bare except",
        "src/huey/a.py:8 broad except without a reason",
    ]


def test_statements_have_a_name_and_a_sentence_in_every_dialect(house: Any) -> None:
    root = house(
        {
            "src/huey/storage/one/sql/q.sql": "-- name: claim\n-- Lease due tasks.\nSELECT 1;\n\n-- name: free\nSELECT 2;\n",
            "src/huey/storage/two/sql/q.sql": "SELECT 0;\n-- name: claim\n-- Lease due tasks.\nSELECT 1;\n",
        }
    )
    assert [p.fact for p in gates.sql(root)] == [
        "free: no sentence says what it does",
        "a statement without a name",
        "has no statement '', another dialect has",
        "has no statement 'free', another dialect has",
    ]


def test_a_lua_header_is_complete(house: Any) -> None:
    root = house(
        {
            "src/huey/a.lua": "-- a: does it\n-- KEYS  k\n-- ARGV  v\n-- Returns 1\nreturn 1",
            "src/huey/b.lua": "-- b\n-- KEYS k\nreturn ARGV[1]",
            "src/huey/parts/c.lua": "-- c: does it\nlocal a = ARGV[1]",
        }
    )
    assert facts(gates.lua(root)) == ["src/huey/b.lua:1 the header does not tell Returns, ARGV"]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 1", []),
        ("import sqlite3", ["import huey loads sqlite3"]),
        ("import nowhere", ["import huey fails without installed packages: ModuleNotFoundError: No module named 'nowhere'"]),
    ],
)
def test_import_huey_loads_nothing_that_costs(house: Any, code: Any, found: Any) -> None:
    root = house({"src/huey/__init__.py": code})
    assert [p.fact for p in gates.imports(root)] == found


def test_names_and_links_of_the_docs_are_checked(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = house({"docs/a.md": "The option `store_none`. See [b](b.md#x), [web](https://example.org/) and [c](c.md).", "docs/b.md": ""})
    monkeypatch.setattr(gates, "public_names", lambda root: [("options", "store_none"), ("options", "utc"), ("events", "none")])
    assert facts(gates.docs(root)) == [
        "src/huey/options.py:1 'utc' stands nowhere in docs/",
        "src/huey/events.py:1 'none' stands nowhere in docs/",
        "docs/a.md:1 the link to c.md leads nowhere",
    ]


def test_an_example_needs_a_test(house: Any) -> None:
    root = house({"examples/hello.py": "", "examples/lost.py": "", "tests/test_x.py": "run('examples/hello.py')"})
    assert facts(gates.examples(root)) == ["examples/lost.py:1 no test names this example"]


def test_an_unknown_gate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert gates.main(["colour"]) == 2
    assert "no gate colour; there are sizes, tests, clock" in capsys.readouterr().err


def test_parts_of_the_docs_that_are_out_of_date_are_found(house: Any) -> None:
    assert gates.made(house({})) == []
    root = house({"tools/docs.py": "print('docs/a.md: out of date; run it'); raise SystemExit(1)"})
    assert facts(gates.made(root)) == ["docs/a.md:1 a made part is out of date"]
    root = house({"tools/docs.py": "raise ValueError('broken')"})
    assert facts(gates.made(root)) == ["tools/docs.py:1 it fails: ValueError: broken"]


WORDS = "crank\nlet_in\n=Page\n+StorageCranked\n+pytest.crank\n"
ALL_ON = "huey: retired private codes\n"


def test_a_name_is_split_at_underscores_and_capitals() -> None:
    assert words.parts("_letIn_HTTPServer2") == ("let", "in", "http", "server2")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def turn_crank(): ...", ["src/huey/a.py:1 'turn_crank' is made of the retired word 'crank'"]),
        ("class CrankShaft: ...", ["src/huey/a.py:1 'CrankShaft' is made of the retired word 'crank'"]),
        ("let_in = 1\nlet_in = 2", ["src/huey/a.py:1 'let_in' is made of the retired word 'let_in'"]),
        ("x = Page(page=1)", ["src/huey/a.py:1 'Page' is made of the retired word 'Page'"]),
        ("cranky = outlet_in = 'crank'  # crank", []),
        ("raise StorageCranked", []),
        ("@pytest.crank\ndef test_a_crank(): ...", []),
    ],
)
def test_retired_words_are_found_in_python(house: Any, code: Any, found: Any) -> None:
    root = house({"tools/retired.txt": WORDS, "tools/clean.txt": ALL_ON, "src/huey/a.py": code})
    assert facts(gates.retired(root)) == found


def test_retired_words_are_found_in_sql_and_lua_code(house: Any) -> None:
    root = house(
        {
            "tools/retired.txt": WORDS,
            "tools/clean.txt": ALL_ON,
            "src/huey/q.sql": "-- name: crank\n-- The crank.\nSELECT 'crank' AS x, my_crank -- crank\n",
            "src/huey/q.lua": "-- crank\nlocal letIn = 'crank'\n",
        }
    )
    assert facts(gates.retired(root)) == [
        "src/huey/q.lua:2 'letIn' is made of the retired word 'let_in'",
        "src/huey/q.sql:1 'crank' is made of the retired word 'crank'",
        "src/huey/q.sql:3 'my_crank' is made of the retired word 'crank'",
    ]


def test_gates_for_words_look_only_where_they_are_switched_on(house: Any) -> None:
    files = {name: "crank = 1" for name in ("src/huey/a.py", "src/huey/b/c.py", "src/huey/bb/c.py", "src/huey/d/e.py", "src/huey/d/f/g.py")}
    root = house(
        files | {"tools/retired.txt": WORDS, "tools/clean.txt": "# huey: retired\nhuey/b: retired\nhuey/bb: codes\nhuey/d/.: retired\n"}
    )
    assert [p.where for p in gates.retired(root)] == ["src/huey/b/c.py", "src/huey/d/e.py"]


OWNER = "class Base:\n    def __init__(self):\n        self._kept = 1\n    def _do(self): ...\n"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(owner):\n    return owner._kept", ["src/huey/b.py:2 uses _kept, which neither this module nor a base class makes"]),
        ("from huey.a import _helper", ["src/huey/b.py:1 uses _helper, which neither this module nor a base class makes"]),
        (
            "class Part:\n    _kept: int\n    def f(self):\n        return self._kept",
            ["src/huey/b.py:4 uses _kept, which neither this module nor a base class makes"],
        ),
        ("from huey.a import Base\nclass Heir(Base):\n    def f(self):\n        return self._kept, super()._do()", []),
        ("class A:\n    _kept = 1\ndef f(a):\n    return a._kept", []),
        ("class Row(NamedTuple):\n    _kept: int\ndef f(row):\n    return row._kept, row._replace(_kept=2)", []),
        ("import atexit\natexit._clear()", []),
        ("def f(value):\n    return value.__dict__", []),
    ],
)
def test_private_names_of_other_modules_are_found(house: Any, code: Any, found: Any) -> None:
    root = house({"tools/clean.txt": ALL_ON, "src/huey/a.py": OWNER, "src/huey/b.py": code})
    assert facts(gates.private(root)) == found


def test_codes_are_found_in_texts_and_not_in_comments(house: Any) -> None:
    code = (
        '"""Decorator: calls become tasks (S25, C12)."""\n'
        "# As S25 wants it.\n"
        "x = f'see {y} in RELIABILITY'\n"
        "z = 'UTF8 S T10.5 %S25 C12x s25 /dev/S1'\n"
        'w = """\nA rule: I12.\n"""\n'
    )
    root = house({"tools/clean.txt": ALL_ON, "src/huey/a.py": code})
    assert facts(gates.codes(root)) == [
        "src/huey/a.py:1 a text says S25",
        "src/huey/a.py:1 a text says C12",
        "src/huey/a.py:3 a text says RELIABILITY",
        "src/huey/a.py:6 a text says I12",
    ]


def test_the_lists_of_words_and_folders_are_in_order() -> None:
    entries = [text for _, text in words.lines_of(gates.ROOT / words.RETIRED)]
    assert sorted({entry for entry in entries if entries.count(entry) > 1}) == []
    for _, line in words.lines_of(gates.ROOT / words.CLEAN):
        folder, _, on = line.partition(":")
        assert (gates.ROOT / "src" / folder.removesuffix("/.")).exists(), folder
        assert set(on.split()) <= {"retired", "private", "codes"}, line


def test_every_decision_stands_in_the_index() -> None:
    folder = gates.ROOT / "docs/internals/decisions"
    index = (folder / "index.md").read_text("utf-8")
    assert [page.name for page in folder.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []
