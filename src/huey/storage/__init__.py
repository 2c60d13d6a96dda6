"""Where tasks live. ``base`` is the contract; each storage fulfils it alone and knows none of the others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huey.runtime.clock import Clock
    from huey.storage.base import Storage

_HOMES = {
    "BaseStorage": ("huey.storage.legacy.plugin", "BaseStorage"),
    "BlackHoleStorage": ("huey.storage.memory.blackhole", "BlackHoleStorage"),
    "CySqliteStorage": ("huey.storage.sqlite.storage", "SqliteStorage"),
    "FileStorage": ("huey.storage.sqlite.folder", "FileStorage"),
    "MemoryStorage": ("huey.storage.memory", "MemoryStorage"),
    "PriorityRedisExpireStorage": ("huey.storage.redis.storage", "RedisExpireStorage"),
    "PriorityRedisStorage": ("huey.storage.redis", "RedisStorage"),
    "RedisExpireStorage": ("huey.storage.redis.storage", "RedisExpireStorage"),
    "RedisStorage": ("huey.storage.redis", "RedisStorage"),
    "SqliteStorage": ("huey.storage.sqlite.storage", "SqliteStorage"),
}
"""Storages by the names of 3.x. Redis has priorities in each."""


def __getattr__(name: str) -> Any:
    if name == "PostgresStorage":
        raise ImportError(
            "PostgresStorage of huey 3.x is not in this release: a queue in PostgreSQL comes in a later one; there are SqliteStorage and "
            "RedisStorage",
            name=__name__,
        )
    if name not in _HOMES:
        raise AttributeError(f"module 'huey.storage' has no attribute {name!r}")
    from importlib import import_module

    home, own_name = _HOMES[name]
    return getattr(import_module(home), own_name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def open_as(kind: str, name: str, **options: Any) -> Storage:
    """A storage of that *kind*, such as ``"SqliteStorage"``, for the queue *name*. ConfigurationError: an option cannot work, or what the
    kind needs is not installed. TypeError: an option that nobody knows."""
    made: Storage = __getattr__(kind).from_options(name, **options)
    return made


def open_of(kind: Any, name: str, clock: Clock, rng: Any, **options: Any) -> Storage:
    """A storage of the class *kind*: one of ours, or a ``BaseStorage`` as for huey 3.x, which is called as *kind* ``(name, **options)``.
    ConfigurationError: it is neither."""
    from huey.storage.base import Storage

    if isinstance(kind, type) and issubclass(kind, Storage):
        return kind.from_options(name, clock=clock, rng=rng, **options)
    return adapted(kind(name, **options) if callable(kind) else kind, name, clock)


def adapted(thing: Any, name: str, clock: Clock) -> Storage:
    """*thing* as a storage: one of ours as it is, a ``BaseStorage`` of huey 3.x over parts of 0.4.9. ConfigurationError: it is neither."""
    from huey.storage.base import Storage
    from huey.storage.legacy import plugin

    return thing if isinstance(thing, Storage) else plugin.adapted(thing, name, clock)


def open_parts(queue: Any, store: Any, schedule: Any, events: Any, *, clock: Clock) -> Storage:
    """The storage of ``Huey(queue, result_store, schedule, events)``: the four parts of 0.4.9."""
    from huey.storage.legacy.components import Components
    from huey.storage.legacy.storage import LegacyStorage

    return LegacyStorage(Components(queue, store, schedule, events), clock=clock)


def why_not(made: object, name: str, error: TypeError) -> str:
    """Why the storage of *made*, an instance of a Huey with the queue *name*, cannot be made: *error* says it, here with the option that
    was meant."""
    from huey.runtime.hinting import keywords_of, unknown_keyword
    from huey.runtime.suggestions import did_you_mean

    who, word = f"{type(made).__name__}({name!r})", unknown_keyword(error)
    if word is None:
        return f"{who}: {error}; known options stand in its docstring"
    kind = getattr(sys.modules[__name__], str(error).partition(".")[0], None)
    classes = (*type(made).__mro__, *getattr(kind, "__mro__", ()))
    indexes = [getattr(kind, "from_options", None), *(vars(it).get("__init__") for it in classes)]
    known = {option for index in indexes for option in keywords_of(index)}
    return f"{who}: unknown option {word!r}" + (did_you_mean(word, known - {"self", "cls"}) or "; known options stand in its docstring")


def is_queue_part(thing: Any) -> bool:
    """It is a queue of 0.4.9, or looks like one, rather than a name."""
    return not isinstance(thing, str) and all(callable(getattr(thing, method, None)) for method in ("write", "read"))
