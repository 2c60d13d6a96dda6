"""huey for Django: the queue in the settings, the consumer as ``manage.py run_huey``, tasks in each app's ``tasks.py``.

    INSTALLED_APPS = [..., 'huey.djhuey']
    HUEY = {'huey_class': 'huey.SqliteHuey'}

    from huey.djhuey import db_task

    @db_task()
    def send_receipt(order_id):
        ...

``HUEY`` is the instance that the settings describe. Its methods are also names of this module, looked up on the instance when they are
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huey.cron import crontab as crontab

if TYPE_CHECKING:
    from huey.api import Huey
    from huey.client.typed import PeriodicTaskMethod, TaskMethod
    from huey.djhuey.database import close_db as close_db
    from huey.djhuey.database import on_commit_task as on_commit_task

    HUEY: Huey
    """The instance that the settings describe. The other names are its methods."""
    task: TaskMethod
    db_task: TaskMethod
    periodic_task: PeriodicTaskMethod
    db_periodic_task: PeriodicTaskMethod

_OF_INSTANCE = (
    *("task", "periodic_task", "context_task", "lock_task", "rate_limit"),
    *("enqueue", "enqueue_many", "batch", "result", "status", "progress", "pending", "scheduled", "events"),
    *("revoke", "revoke_all", "revoke_by_id", "restore", "restore_all", "restore_by_id", "is_revoked"),
    *("signal", "disconnect_signal", "pre_execute", "post_execute", "on_startup", "on_shutdown"),
    *("is_locked", "flush_locks", "inspector"),
)
_OF_DATABASE = ("db_task", "db_periodic_task", "on_commit_task", "close_db")

__all__ = ["HUEY", "crontab", "db_periodic_task", "db_task", "on_commit_task", "periodic_task", "task"]


def __getattr__(name: str) -> Any:
    # Imported here: Django loads this module before its settings and apps are ready.
    if name in _OF_DATABASE:
        from huey.djhuey import database

        return getattr(database, name)
    if name == "HUEY" or name in _OF_INSTANCE:
        from huey.djhuey.settings import current

        huey = current().huey
        return huey if name == "HUEY" else getattr(huey, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "HUEY", *_OF_INSTANCE, *_OF_DATABASE})
