"""huey where people use it: web servers that fork, reloaders, test runners, notebooks."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.djangos import DjangoProject
from tests.support.helpers import Project, bare_environment, wait_until
from tests.support.mortals import mortal

pytestmark = pytest.mark.usefixtures("project")

TASKS = """
@huey.task()
def add(a, b):
    return a + b
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An application with one task."""
    project = Project(tmp_path)
    project.write(TASKS)
    yield project
    project.close()


def python(project: Project, text: str) -> str:
    """A program in the folder of the application: what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=project.home, env=bare_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def server(folder: Path, *command: str, **environment: str) -> Iterator[Path]:
    """A program that serves until it is told to stop; its output."""
    output = folder / "server.txt"
    with output.open("wb") as file:
        process = mortal(
            subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=bare_environment(**environment),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        )
    try:
        yield output
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- web applications -------------------------------------------------------------------------------------------------------------------

FLASK = """
from flask import Flask, current_app, request
from main import add, huey

def create_app(word):
    app = Flask(__name__)
    app.config["WORD"] = word

    @app.post("/add")
    def start():
        return {"id": add(int(request.form["a"]), 2).id}

    @app.get("/result/<id>")
    def show(id):
        return {"value": huey.result(id, preserve=True), "word": current_app.config["WORD"]}

    return app
"""


def test_a_flask_application_that_a_factory_makes(project: Project) -> None:
    pytest.importorskip("flask")
    project.write(FLASK, "web.py")
    (project.home / "web.py").write_text(FLASK)
    command = project.start("main.huey")

    text = """
import time
from web import create_app
clients = [create_app(word).test_client() for word in ("one", "two")]
ids = [client.post("/add", data={"a": number}).json["id"] for number, client in enumerate(clients)]
from main import huey
values = [huey.result(id, blocking=True, timeout=30, preserve=True) for id in ids]
print(values, [client.get(f"/result/{id}").json for client, id in zip(clients, ids)])
"""
    assert python(project, text) == "[2, 3] [{'value': 2, 'word': 'one'}, {'value': 3, 'word': 'two'}]\n"
    assert command.stop() == 0


class UnixConnection(http.client.HTTPConnection):
    """To a server that listens at a path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


GUNICORN = """
import os
from main import add

# The queue is in use before gunicorn forks.
add(0, 0)

def app(environ, start_response):
    id = add(int(environ["QUERY_STRING"]), 1).id
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {id}".encode()]
"""


def test_gunicorn_with_preload(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (project.home / "web.py").write_text(GUNICORN)
    at = tmp_path / "s"
    told: list[tuple[str, str]] = []

    def ask(number: int) -> bool:
        connection = UnixConnection(at)
        try:
            connection.request("GET", f"/?{number}")
            pid, id = connection.getresponse().read().decode().split()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        told.append((pid, id))
        return True

    command = project.start("main.huey")
    with server(project.home, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"unix:{at}", "web:app") as output:
        wait_until(lambda: ask(0), told=output.read_text)
        for number in range(1, 20):
            assert ask(number), output.read_text()

    values = [project.huey.result(id, blocking=True, timeout=30) for _, id in told]
    assert values == [number + 1 for number in range(20)]
    assert command.stop() == 0


UWSGI = """
import os, sys
from main import add, huey

ids = [add(0, 0).id]
pipes = []
for number in range(3):
    ear, mouth = os.pipe()
    if not os.fork():
        # As below uwsgi: the forked process serves, and never leaves this function.
        with os.fdopen(mouth, "w") as file:
            file.write(" ".join(add(number, n).id for n in range(10)))
        os._exit(0)
    os.close(mouth)
    pipes.append(ear)
ids += [add(9, 9).id]
for ear in pipes:
    with os.fdopen(ear) as file:
        ids += file.read().split()
    os.wait()
print(len(set(ids)), len(huey.inspector.tasks(limit=100)))
"""


def test_processes_forked_after_the_first_call_can_enqueue(project: Project) -> None:
    assert python(project, UWSGI) == "32 32\n"


FORKED_CONSUMER = """
import os
from main import add, huey

first = add(1, 1)
if not os.fork():
    consumer = huey.create_consumer(periodic=False)
    consumer.start()
    ok = first.get(blocking=True, timeout=20) == 2 and add(2, 2).get(blocking=True, timeout=20) == 4
    consumer.stop()
    os._exit(0 if ok else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_server_process_may_run_a_consumer_of_its_own(project: Project) -> None:
    assert python(project, FORKED_CONSUMER) == "0\n"


# -- development ------------------------------------------------------------------------------------------------------------------------

VIEWS = """
from django.http import HttpResponse
from django.urls import path
from beans.tasks import version

urlpatterns = [path("", lambda request: HttpResponse(version().id))]
"""


def test_djangos_runserver_enqueues_before_and_after_it_reloads(tmp_path: Path) -> None:
    (tmp_path / "django").mkdir()
    project = DjangoProject(tmp_path / "django")
    project.settings(
        "{'huey_class': 'huey.SqliteHuey', 'name': 'beans', 'filename': FILE, 'immediate': False}",
        DEBUG=True,
        ROOT_URLCONF="beans.urls",
        ALLOWED_HOSTS=["*"],
    )
    tasks = "from huey.djhuey import task\n\n@task()\ndef version():\n    return {}\n"
    project.tasks(tasks.format(1))
    project.write("beans/urls.py", VIEWS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ids: list[str] = []

    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            ids.append(response.read().decode())
            return response.status == 200
        except OSError:
            return False
        finally:
            connection.close()

    try:
        with server(project.folder, "manage.py", "runserver", f"127.0.0.1:{port}", "--skip-checks", PYTHONUNBUFFERED="1") as output:
            wait_until(ask, told=output.read_text)

            def is_reloading() -> bool:
                # Saved again and again: the first time Django may not have looked yet.
                project.tasks(tasks.format(2))
                return "reloading" in output.read_text()

            wait_until(is_reloading, told=output.read_text)
            wait_until(ask, told=output.read_text)
        command = project.start("-n")
        assert project.huey.result(ids[0], blocking=True, timeout=30) == 2
        assert project.huey.result(ids[-1], blocking=True, timeout=30) == 2
        assert command.stop() == 0
    finally:
        project.close()
        project.huey.close()


PYTEST = """
import pytest
from huey import MemoryHuey

huey = MemoryHuey(immediate=True)

@huey.task()
def add(a, b):
    return a + b

@pytest.fixture
def worker():
    huey.immediate = False
    consumer = huey.create_consumer(periodic=False)
    consumer.start()
    yield consumer
    consumer.stop()
    huey.immediate = True

def test_immediate():
    assert add(1, 2).get() == 3

@pytest.mark.parametrize("number", range(3))
def test_with_a_consumer(worker, number, caplog):
    caplog.set_level("INFO")
    assert add(number, 2).get(blocking=True, timeout=20) == number + 2

def test_errors_show(worker):
    with pytest.raises(Exception, match="unsupported operand"):
        add(1, "2").get(blocking=True, timeout=20)
"""


def test_tasks_in_test_modules(project: Project) -> None:
    (project.home / "test_it.py").write_text(PYTEST)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_it.py"],
        cwd=project.home,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


CELLS = '''
import linecache, sys, warnings
warnings.simplefilter("ignore")
cell = """
from huey import MemoryHuey
huey = globals().get("huey") or MemoryHuey("notebook")

@huey.task()
def word():
    return {!r}
"""

def run(number, source):
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), sys.modules["__main__"].__dict__)

sys.ps1 = "In: "
run(1, cell.format("old"))
consumer = huey.create_consumer(periodic=False)
consumer.start()
print(word().get(blocking=True, timeout=20))
run(2, cell.format("old"))
print(word().get(blocking=True, timeout=20))
run(3, cell.format("new"))
print(word().get(blocking=True, timeout=20))
consumer.stop()
'''


def test_a_cell_of_a_notebook_that_is_run_again(project: Project) -> None:
    assert python(project, CELLS) == "old\nold\nnew\n"
