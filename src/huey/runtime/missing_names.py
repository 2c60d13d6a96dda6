"""Names of huey 3.x that this release does not have: their errors, and what to use instead."""

from __future__ import annotations

from typing import NoReturn

COMING = {
    "PostgresHuey": "a queue in PostgreSQL comes in a later release; there are SqliteHuey and RedisHuey",
    "PostgresStorage": "a queue in PostgreSQL comes in a later release; there are SqliteHuey and RedisHuey",
    "huey.contrib.flask_admin": "a dashboard comes in a later release; until then there is huey.inspector",
    "huey.contrib.helpers": "@huey.task(concurrency=3, key=...) bounds how many tasks run at the same time, on every storage",
    "huey.contrib.mini": "MemoryHuey with huey.create_consumer() runs tasks in the program itself",
    "huey.contrib.sql_huey": "SqliteHuey needs no peewee, and RedisHuey serves any number of hosts",
    "huey.contrib.stats": "huey.inspector.stats() and .totals() report what ran, how often and for how long",
    "huey.contrib.valkey_glide": "RedisHuey works with Valkey too, through redis-py",
}
"""Text of the error, by name or module."""


def not_here(module: str, name: str = "") -> NoReturn:
    """Raise the error for importing a name or a whole module: ImportError if huey 3.x has it and this release does not, AttributeError if
    no release has it."""
    if (name or module) not in COMING:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    what = f"{name} of huey 3.x (imported from {module})" if name else f"{module} of huey 3.x"
    raise ImportError(f"{what} is not in this release: {COMING[name or module]}", name=module)


_OTHER_QUEUES = {
    "apply_async": "call it, f(1, 2, delay=5, priority=3), or use f.schedule(args=(1, 2), delay=5)",
    "async_": "call it, f(1, 2)",
    "delay": "call it, f(1, 2); for later: f(1, 2, delay=5)",
    "enqueue": "call it, f(1, 2)",
    "kiq": "call it, f(1, 2)",
    "send": "call it, f(1, 2)",
    "send_with_options": "call it, f(1, 2, delay=5, priority=3)",
    "si": "f.s(1, 2) makes a task that is not enqueued yet",
    "signature": "f.s(1, 2) makes a task that is not enqueued yet",
    "then": "a pipeline begins with a task, f.s(1, 2).then(g)",
    "error": "a task has a handler of its failure, f.s(1, 2).error(g); for all failures: @huey.signal('error')",
}
"""Methods of other task queues, and of tasks."""


_OTHER_RESULTS = {
    "failed": "result.status == 'failed'",
    "forget": "huey.result(id) takes the result out of the store; result_ttl= says how long unread ones stay",
    "ready": "result.is_ready(), or result.status",
    "result": "result.get(), or result.get(blocking=True, timeout=5)",
    "state": "result.status",
    "successful": "result.status == 'succeeded'",
    "traceback": "result.exception().metadata['traceback'], once the task has failed",
    "wait": "result.get(blocking=True, timeout=5)",
}
"""Members of handles of other task queues."""

OTHER_OPTIONS = {
    "acks_late": "a task whose worker dies runs again anyway; at_most_once=True if it must not",
    "autoretry_for": "retries=3, retry_on=(OSError,)",
    "bind": "context=True passes the task as the keyword task",
    "default_retry_delay": "retry_delay=60",
    "ignore_result": "Huey(results=False) stores no results; a task that returns None stores none",
    "max_retries": "retries=3",
    "rate_limit": "rate='10/m'",
    "soft_time_limit": "timeout=60",
    "time_limit": "timeout=60",
}
"""Options of tasks of other task queues."""


class _MissingName:
    """An attribute that does not exist, with an error that says why. (A ``__getattr__`` would slow down every attribute access.)"""

    def __init__(self, why: str) -> None:
        self._why = why
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: object, kind: type | None = None) -> NoReturn:
        owner = thing if thing is not None else kind
        name = getattr(owner, "name", None) or type(owner).__name__
        raise AttributeError(f"{name!r} has no attribute {self._name!r}: {self._why}")


def explain_missing_names(kind: type, *, is_handle: bool = False) -> None:
    """Give class *kind*, that of decorated functions or of handles, errors with a hint for what other task queues have there."""
    for name, why in (_OTHER_RESULTS if is_handle else _OTHER_QUEUES).items():
        attribute = _MissingName(why)
        attribute.__set_name__(kind, name)
        setattr(kind, name, attribute)
