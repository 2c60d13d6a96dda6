"""Django for tests: settings for this process, and projects on disk with a real ``manage.py``."""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from huey import SqliteHuey
from tests.support.helpers import Command, bare_environment

SECRET_KEY = "for tests"
HAS_OWN_TASKS = django.VERSION >= (6, 0)
"""This Django has ``django.tasks``; older ones use the backport."""
TASKS = {"default": {"BACKEND": "huey.djhuey.tasks_backend.HueyBackend", "QUEUES": ["default", "mail"]}}
ADMIN = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"]
BACKPORT = [] if HAS_OWN_TASKS else ["django_tasks"]


def set_up() -> None:
    """Settings for this process, once: a SQLite database of its own, the queue in memory. Tests override what they need."""
    if settings.configured:
        return
    folder = tempfile.TemporaryDirectory(prefix="huey-django-")
    atexit.register(folder.cleanup)
    settings.configure(
        SECRET_KEY=SECRET_KEY,
        USE_TZ=True,
        ROOT_URLCONF="tests.django.urls",
        INSTALLED_APPS=[*ADMIN, *BACKPORT, "huey.djhuey"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(folder.name) / "db.sqlite3"}},
        HUEY={"huey_class": "huey.MemoryHuey", "name": "django"},
        TASKS=TASKS,
        STATIC_URL="static/",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()


class DjangoProject:
    """A project on disk: ``manage.py``, ``site.settings``, an app ``beans``; consumers started on it.

    The queue is the SQLite file ``queue.db`` beside ``manage.py``, under the name ``beans``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "home"
        self.console = folder
        self.huey = SqliteHuey("beans", filename=self.folder / "queue.db", secret=[SECRET_KEY])
        self._commands: list[Command] = []
        for package in ("shop", "beans"):
            (self.folder / package).mkdir(parents=True)
            (self.folder / package / "__init__.py").touch()
        self.write(
            "manage.py",
            "import os, sys\n"
            "os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n"
            "from django.core.management import execute_from_command_line\n"
            "execute_from_command_line(sys.argv)\n",
        )

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, "utf-8")

    def settings(self, huey: str, *apps: str, **more: Any) -> None:
        """The settings, with this text as HUEY (empty: not set); ``FILE`` in it is the queue's file."""
        lines = [
            "from pathlib import Path",
            "BASE_DIR = Path(__file__).resolve().parent.parent",
            "FILE = str(BASE_DIR / 'queue.db')",
            f"SECRET_KEY = {SECRET_KEY!r}",
            f"INSTALLED_APPS = {[*(apps or ('huey.djhuey',)), 'beans']!r}",
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'db.sqlite3'}}",
            *(f"{name} = {value!r}" for name, value in more.items()),
            f"HUEY = {huey}" if huey else "",
        ]
        self.write("shop/settings.py", "\n".join(lines) + "\n")

    def tasks(self, text: str) -> None:
        self.write("beans/tasks.py", text)

    def task(self, name: str, **options: Any) -> Any:
        """The function of that name in the project, to be called from here; its body is there only."""

        def body(*args: Any, **kwargs: Any) -> None:
            raise AssertionError(f"{name} ran in the test")

        return self.huey.task(name=name, **options)(body)

    def start(self, *arguments: str, **environment: str) -> Command:
        """``manage.py run_huey`` with these arguments, started."""
        stderr = self.console / f"console-{len(self._commands)}.txt"
        program = [sys.executable, "manage.py", "run_huey"]
        command = Command(arguments, self.folder, stderr, bare_environment(**environment), program)
        self._commands.append(command)
        return command

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``manage.py`` with these arguments, run to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=25,
        )

    def python(self, text: str) -> str:
        """A program that uses the project, run to its end: what it printed."""
        start = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'; django.setup()\n"
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", start + text],
            cwd=self.folder,
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=25,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def close(self) -> None:
        for command in self._commands:
            command.bury()
        self.huey.close()
