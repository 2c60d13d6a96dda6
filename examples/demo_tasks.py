"""The tasks of demo.py. Each notes what it does in a diary, so that the demo can check every run against the facts."""

from __future__ import annotations

import os
import time

from huey import Huey, crontab

huey = Huey("demo")  # No more said: a SQLite file, huey.db in the current folder.

_diary = os.open("diary.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(*words: object) -> None:
    """One line, one write: a kill leaves a whole line or none."""
    os.write(_diary, " ".join(map(str, (os.getpid(), *words, "\n"))).encode())


@huey.task()
def add(a, b):
    note("add", a, b)
    return a + b


@huey.task()
def remind(what):
    note("remind", what)
    return f"remember the {what}"


@huey.task(retries=2, retry_delay=0.5, retries_as_argument=True)
def call_home(retries):
    if retries > 0:
        note("call_home", "failed", retries)
        raise ConnectionError("nobody picks up")
    note("call_home", "worked", retries)
    return "hello, mother"


@huey.periodic_task(crontab(minute="*"), include_task=True)
def every_minute(task):
    note("every_minute", task.id)


@huey.task()
def square(number):
    note("square", number)
    return number * number


@huey.task()
def write_report(pages):
    for page in range(1, pages + 1):
        time.sleep(0.15)
        note("page", page)
    note("report", pages)
    return f"a report of {pages} pages"
