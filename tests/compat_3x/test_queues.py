"""Several queues in one store: ``queue=`` of a task, ``huey.on``, and consumers that choose."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huey import Huey
from huey.exceptions import ConfigurationError
from huey.storage.base import Storage
from tests.compat_3x.conftest import Told
from tests.support.helpers import Project, never, noting, running, wait_until

MakeHuey = Callable[..., Huey]


def test_a_task_goes_to_the_queue_of_its_function(huey: Huey) -> None:
    mail = huey.task(queue="mail", name="mail")(lambda n: n)
    plain = huey.task(name="plain")(lambda n: n)

    sent, other = mail(1), plain(2)

    assert [it.id for it in huey.pending()] == [other.id]
    assert [it.id for it in huey.on("mail").pending()] == [sent.id]
    assert huey.on("mail").inspector.queues() == ["app", "mail"]


def test_a_consumer_of_a_queue_runs_its_tasks_only(huey: Huey) -> None:
    ran: list[Any] = []
    mail = noting(huey, ran, queue="mail", name="mail")
    plain = noting(huey, ran, name="plain")

    with running(huey.on("mail")):
        assert mail("a").get(blocking=True, timeout=10) == "a"
        waiting = plain("b")
        assert never(waiting.is_ready, within=0.1)
    with running(huey):
        assert waiting.get(blocking=True, timeout=10) == "b"
    assert ran == ["a", "b"]


def test_a_consumer_inside_a_program_may_name_its_queue(huey: Huey) -> None:
    mail = huey.task(queue="mail")(lambda n: n)

    with running(huey, queues="mail"):
        assert mail(1).get(blocking=True, timeout=10) == 1
    with pytest.raises(ConfigurationError, match="takes tasks from one queue"):
        huey.create_consumer(workers=2, queues="app,mail").start()


def test_many_calls_find_their_queues(huey: Huey) -> None:
    mail = huey.task(queue="mail", name="mail")(lambda n: n)
    plain = huey.task(name="plain")(lambda n: n)

    mixed = huey.enqueue_many([mail.s(1), plain.s(2), mail.s(3)])
    mapped = mail.map([4, 5])
    with huey.batch():
        plain(6)
        mail(7)
        assert len(huey.on("mail")) == 4

    assert sorted(it.args[0] for it in huey.pending()) == [2, 6]
    assert sorted(it.args[0] for it in huey.on("mail").pending()) == [1, 3, 4, 5, 7]
    with running(huey), running(huey.on("mail")):
        assert mixed.get(blocking=True, timeout=10) == [1, 2, 3]
        assert mapped.get(blocking=True, timeout=10) == [4, 5]


def test_revoking_and_rescheduling_find_the_queue(huey: Huey) -> None:
    ran: list[Any] = []
    mail = noting(huey, ran, queue="mail")
    one, two, three = mail(1), mail(2), mail(3)

    one.revoke()
    huey.revoke(two.task)
    moved = three.reschedule()
    assert huey.is_revoked(two)
    assert huey.restore(two)
    mail.revoke(revoke_once=True)
    assert mail.is_revoked()
    mail.restore()

    with running(huey.on("mail")):
        assert two.get(blocking=True, timeout=10) == 2
        assert moved.get(blocking=True, timeout=10) == 3
    assert ran == [2, 3]


def test_a_periodic_function_is_fired_by_consumers_of_its_queue(huey: Huey) -> None:
    ran: list[str] = []
    huey.periodic_task(lambda now: True, queue="mail", name="mail")(lambda: ran.append("mail"))
    huey.periodic_task(lambda now: True, name="plain")(lambda: ran.append("plain"))

    with running(huey.on("mail"), periodic=True):
        wait_until(lambda: ran == ["mail"])
    with running(huey, periodic=True):
        wait_until(lambda: ran == ["mail", "plain"])


def test_signals_and_hooks_are_shared(huey: Huey, told: Told) -> None:
    mail = huey.task(queue="mail")(lambda: 1)

    with running(huey.on("mail")):
        handle = mail()
        wait_until(lambda: told.of(handle.id) == ["enqueued", "executing", "complete"])


def test_immediate_mode_runs_tasks_of_all_queues(huey: Huey) -> None:
    mail = huey.task(queue="mail")(lambda n: n)
    huey.immediate = True
    assert mail(1)() == 1
    huey.immediate = False
    waiting = mail(2)

    assert [it.id for it in huey.on("mail").pending()] == [waiting.id]


def test_the_way_back(huey: Huey) -> None:
    mail = huey.on("mail")
    assert huey.on(None) is huey.on("app") is mail.on("app") is huey
    assert mail.on("mail") is mail is huey.on("mail")
    assert mail.on("video") is huey.on("video")


def test_a_signed_message_is_not_read_from_another_queue(make_huey: MakeHuey) -> None:
    huey = make_huey(secret="a secret")
    mail = huey.on("mail")
    data = mail.codec.encode("task", "a", ((1,), None))

    with pytest.raises(ValueError, match="signature"):
        huey.codec.decode("task", "a", data)


def test_a_storage_without_other_queues_says_so() -> None:
    class Single:
        name = "app"

        def __repr__(self) -> str:
            return "<Single>"

    with pytest.raises(ConfigurationError, match=r"<Single> holds only one queue"):
        Storage.for_queue(Single(), "mail")  # type: ignore[arg-type]


@pytest.mark.parametrize("queue", ["", 5])
def test_a_queue_has_a_name(huey: Huey, queue: Any) -> None:
    with pytest.raises(ValueError, match="queue="):
        huey.task(queue=queue)(lambda: 1)


# The command


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


APP = """
import os
import pathlib
import threading

@huey.task(queue='mail')
def mail(n):
    return os.getpid()

@huey.task(queue='mail')
def fatal():
    if not pathlib.Path('died').exists():
        pathlib.Path('died').touch()
        os._exit(9)
    return 'lives'

@huey.task()
def plain(n):
    return os.getpid()
"""


def task_on(project: Project, name: str, queue: str | None) -> Any:
    return project.task(name, queue=queue)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_command_takes_from_the_queues_it_is_given(project: Project, kind: str) -> None:
    project.write(APP)
    command = project.start("main.huey", "-k", kind, "-w", "4", "-n", "--queues", "app,mail:2")
    mail, plain = task_on(project, "main.mail", "mail"), task_on(project, "main.plain", None)

    mails, plains = mail.map(range(40)), plain.map(range(40))
    by_mail, by_plain = set(mails.get(blocking=True, timeout=20)), set(plains.get(blocking=True, timeout=20))

    assert not by_mail & by_plain
    assert len(by_plain) == 1
    assert 1 <= len(by_mail) <= (1 if kind == "thread" else 3)
    assert "queue 'app' with 1 worker, queue 'mail' with 3 workers" in command.log
    assert command.stop() == 0


def test_deaths_in_another_queue_are_dealt_with_there(project: Project) -> None:
    project.write(APP)
    command = project.start("main.huey", "-w", "2", "-n", "--queues", "app,mail")

    assert task_on(project, "main.fatal", "mail")().get(blocking=True, timeout=20) == "lives"

    assert "exited with code 9" in command.log
    # New code, same process: the workers of both queues are handed over.
    command.send(signal.SIGHUP)
    wait_until(lambda: "starting with the new code" in command.log, told=lambda: command.log)
    for name, queue in (("main.mail", "mail"), ("main.plain", None)):
        assert isinstance(task_on(project, name, queue)(1).get(blocking=True, timeout=20), int)
    assert command.stop() == 0


def test_a_command_may_take_from_another_queue_only(project: Project) -> None:
    project.write(APP)
    command = project.start("main.huey", "-n", "--queues", "mail")

    assert isinstance(task_on(project, "main.mail", "mail")(1).get(blocking=True, timeout=20), int)
    waiting = task_on(project, "main.plain", None)(1)
    assert never(waiting.is_ready)
    assert command.stop() == 0
