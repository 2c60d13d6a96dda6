"""The scripts as they are built: every key is one of keys.py, every name is defined, and the text is as short as it can be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from huey.storage.redis import keys
from huey.storage.redis.scripts import FIGURES, FOLDER, script

SOURCES = sorted(FOLDER.rglob("*.lua"))
VERBS = sorted(path.stem for path in FOLDER.glob("*.lua"))
GLOBALS = {"KEYS", "ARGV", "redis", "cjson", "cmsgpack", "struct", "math", "string", "table"}
GLOBALS |= {"ipairs", "pairs", "pcall", "tonumber", "tostring", "type", "unpack"}
KEYWORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or"}
KEYWORDS |= {"repeat", "return", "then", "true", "until", "while"}
_STRING = re.compile(r"'(?:\\.|[^'\\])*'")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_script_names_its_keys_by_the_names_of_keys_py(path: Path) -> None:
    source = re.sub(r"--.*", "", path.read_text("utf-8"))

    assert not re.search(r"\bP\s*\.\.", source)
    assert set(re.findall(r"\$(\w+)", source)) <= keys.NAMES.keys() | FIGURES.keys()


def test_every_key_and_figure_is_used_by_a_script() -> None:
    used = {name for path in SOURCES for name in re.findall(r"\$(\w+)", path.read_text("utf-8"))}

    assert used == keys.NAMES.keys() | FIGURES.keys()


def test_no_two_keys_are_the_same() -> None:
    assert len(set(keys.NAMES.values())) == len(keys.NAMES)


@pytest.mark.parametrize("name", VERBS)
def test_the_server_is_sent_literals_and_no_comments(name: str) -> None:
    text = script(name).text.decode()

    assert "$" not in _STRING.sub("", text)
    assert not re.search(r"^\s*--", text, re.MULTILINE)


@pytest.mark.parametrize("name", VERBS)
def test_every_name_in_a_script_is_defined_there(name: str) -> None:
    text = _STRING.sub("''", script(name).text.decode())
    defined = GLOBALS | KEYWORDS
    for names in re.findall(r"\blocal (?!function)([\w, ]+)|\bfunction ?\w*\(([\w, ]*)|\bfor ([\w, ]+) (?:=|in)", text):
        defined |= set(re.findall(r"\w+", " ".join(names)))
    defined |= set(re.findall(r"\blocal function (\w+)", text))

    assert set(re.findall(r"(?<![\w.:])[A-Za-z_]\w*(?!\w*\s*=[^=])", text)) <= defined
