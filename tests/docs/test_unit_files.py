"""The unit files on the pages for service managers: they can be read, their flags exist, and they wait longer than the consumer does."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from huey.cli.parser import given_settings
from huey.consumer.settings import validate_settings
from tests.docs.test_pages import PAGES, blocks

HOW_TO = {page.name: page for page in PAGES if page.parent.name == "how-to"}


def block(page: str, info: str) -> str:
    """The one block of that kind on the page."""
    (found,) = [block.text for block in blocks(HOW_TO[page]) if block.info == info]
    return found


def settings_of(words: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The settings that a command line gives; it has to be one that the consumer accepts."""
    program, *arguments = words
    assert Path(program).name == "huey_consumer"
    given = given_settings(arguments, environment or {})
    assert given.pop("path") == "app.huey"
    return validate_settings({name: value for name, value in given.items() if name != "reload"})


def ini(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


def test_every_consumer_command_on_every_page_can_be_read() -> None:
    lines = [
        line.removeprefix("$ ")
        for page in PAGES
        for block in blocks(page)
        if block.info == "console"
        for line in block.lines
        if line.startswith("$ huey_consumer ")
    ]

    assert lines
    for line in lines:
        given_settings(shlex.split(line)[1:], {})


# -- systemd ----------------------------------------------------------------------------------------------------------------------------


def test_the_unit_of_systemd_fits_the_command() -> None:
    service = ini(block("systemd.md", "ini"))["Service"]
    name, _, value = service["Environment"].partition("=")

    settings = settings_of(shlex.split(service["ExecStart"]), {name: value})

    assert (settings["workers"], settings["worker_type"]) == (4, "process")
    assert int(service["TimeoutStopSec"]) > settings["shutdown_timeout"]
    assert service["KillMode"] == "mixed"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_its_unit(tmp_path: Path) -> None:
    unit = tmp_path / "my-app-consumer.service"
    # It looks whether the program is there.
    unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", block("systemd.md", "ini")), "utf-8")

    seen = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=25)

    # What it says about other units of this machine is not our business.
    assert "my-app-consumer" not in seen.stderr, seen.stderr
    assert seen.returncode == 0, seen.stderr


# -- supervisord ------------------------------------------------------------------------------------------------------------------------

PROGRAM_KEYS = """
    command process_name numprocs numprocs_start priority autostart startsecs startretries autorestart exitcodes stopsignal stopwaitsecs
    stopasgroup killasgroup user redirect_stderr stdout_logfile stdout_logfile_maxbytes stdout_logfile_backups stderr_logfile environment
    directory umask
""".split()  # noqa: SIM905
"""What supervisord knows in a program section."""


def test_the_program_of_supervisord_fits_the_command() -> None:
    program = ini(block("supervisord.md", "ini"))["program:my-app-consumer"]
    environment = dict(part.partition("=")[::2] for part in program["environment"].replace('"', "").split(","))

    settings = settings_of(shlex.split(program["command"]), environment)

    assert set(program) <= set(PROGRAM_KEYS)
    assert (settings["workers"], settings["worker_type"]) == (4, "process")
    assert int(program["stopwaitsecs"]) > settings["shutdown_timeout"]
    assert program["stopsignal"] in settings["graceful_signal"]
    assert not program.getboolean("stopasgroup")
    assert program.getboolean("killasgroup")


# -- containers -------------------------------------------------------------------------------------------------------------------------


def test_the_image_runs_the_command() -> None:
    text = block("docker.md", "dockerfile")
    command = json.loads(re.findall(r"^CMD (.+)$", text, re.MULTILINE)[0])
    environment = dict(line.split("=") for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE))

    settings = settings_of(command, environment)

    assert (settings["workers"], settings["worker_type"]) == (4, "process")
    (signal,) = re.findall(r"^STOPSIGNAL SIG(\w+)$", text, re.MULTILINE)
    assert signal in settings["graceful_signal"]
    (patience,) = re.findall(r"--stop-timeout (\d+)", block("docker.md", "sh"))
    assert int(patience) > settings["shutdown_timeout"]


def test_the_deployment_runs_the_command() -> None:
    text = block("kubernetes.md", "yaml")
    (command,) = [json.loads(line) for line in re.findall(r"args: (\[.+\])", text) if "huey_consumer" in line]
    environment = dict(re.findall(r'{name: (HUEY_\w+), value: "(.+?)"}', text))

    settings = settings_of(command, environment)

    assert settings["workers"] == 2
    (patience,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert int(patience) > settings["shutdown_timeout"]
    (limit,) = re.findall(r"limits: {memory: (\d+)Gi}", text)
    assert settings["workers"] * settings["max_memory"] < 1024 * int(limit)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_understands_the_deployment(tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(block("kubernetes.md", "yaml"), "utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [deployment.yaml]\n", "utf-8")

    seen = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=25)

    assert seen.returncode == 0, seen.stderr
    assert "huey_consumer" in seen.stdout


def test_the_command_that_the_files_name_is_installed() -> None:
    assert (Path(sys.executable).parent / "huey_consumer").exists() or shutil.which("huey_consumer")
