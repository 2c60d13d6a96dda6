"""The page about Django is true: its five minutes are followed, line by line, in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.test_pages import ROOT, blocks
from tests.support.helpers import Command, bare_environment, wait_until

PAGE = ROOT / "docs" / "how-to" / "django.md"
NOT_HERE = ("python -m venv", ". .venv", "python -m pip")
"""This interpreter has what these lines bring."""
PRINTED = re.compile(r"^print\(.*\) +# .+$", re.MULTILINE)


def five_minutes() -> list[tuple[str, str, str]]:
    """The blocks of that section and the one about views: the line before, what it is, its text."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index("## Five minutes")
    end = lines.index("## Tasks")
    return [(lines[block.line - 3], block.info, block.text) for block in blocks(PAGE) if start < block.line < end]


def test_a_new_user_has_a_running_task_in_five_minutes(tmp_path: Path) -> None:
    consumers: list[Command] = []
    said: list[str] = []

    def do(*command: str, text: str = "") -> str:
        program = [sys.executable, *command] if command[0] != "django-admin" else [sys.executable, "-m", "django", *command[1:]]
        ended = subprocess.run(
            program, cwd=tmp_path, env=bare_environment(), input=text, capture_output=True, text=True, timeout=25, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    try:
        for before, info, text in five_minutes():
            named = before.partition("`")[2].partition("`")[0]
            if info == "console":
                for line in text.splitlines():
                    command = line.removeprefix("$ ")
                    if command.endswith("run_huey"):
                        program = [sys.executable, "manage.py", "run_huey"]
                        consumers.append(Command((), tmp_path, tmp_path / "console.txt", bare_environment(), program))
                    elif not command.startswith(NOT_HERE):
                        words = shlex.split(command)
                        do(*(words[1:] if words[0] == "python" else words))
            elif named.endswith(".py"):
                with (tmp_path / named).open("a", encoding="utf-8") as file:
                    file.write(f"\n{text}\n")
            else:
                said += do("manage.py", "shell", text=f"{text}\n").splitlines()[-len(PRINTED.findall(text)) :]
        assert said == ["0 users", "{'status': 'succeeded', 'value': '0 users'}", "404"], consumers[0].log
        wait_until(lambda: "task beans.tasks.count_users" in consumers[0].log)
        assert consumers[0].stop() == 0
    finally:
        for consumer in consumers:
            consumer.bury()
