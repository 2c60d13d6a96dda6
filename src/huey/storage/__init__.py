"""Where tasks are kept. ``base`` is the contract; each storage implements it and imports none of the others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huey.runtime.clock import Clock
    from huey.storage.base import Storage

_HOMES = {
    "BaseStorage": ("huey.storage.legacy.plugin", "BaseStorage"),
    "BlackHoleStorage": ("huey.storage.memory.storage", "BlackHoleStorage"),
    "CySqliteStorage": ("huey.storage.sqlite.storage", "SqliteStorage"),
    "FileStorage": ("huey.storage.sqlite.folder", "FileStorage"),
    "MemoryStorage": ("huey.storage.memory", "MemoryStorage"),
    "PriorityRedisExpireStorage": ("huey.storage.redis.storage", "RedisExpireStorage"),
    "PriorityRedisStorage": ("huey.storage.redis", "RedisStorage"),
    "RedisExpireStorage": ("huey.storage.redis.storage", "RedisExpireStorage"),
    "RedisStorage": ("huey.storage.redis", "RedisStorage"),
    "SqliteStorage": ("huey.storage.sqlite.storage", "SqliteStorage"),
}
"""The storages by their huey 3.x names. Each Redis storage supports priorities."""


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
    """Return a storage of *kind*, such as ``"SqliteStorage"``, for the queue *name*. Raise ConfigurationError for an option that cannot
    work or a missing package, TypeError for an unknown option."""
    made: Storage = __getattr__(kind).from_options(name, **options)
    return made


def open_of(kind: Any, name: str, clock: Clock, rng: Any, **options: Any) -> Storage:
    """Return a storage of the class *kind*: a ``Storage``, or a ``BaseStorage`` of huey 3.x, which is called as *kind* ``(name,
    **options)``. Raise ConfigurationError for any other class."""
    from huey.storage.base import Storage

    if isinstance(kind, type) and issubclass(kind, Storage):
        return kind.from_options(name, clock=clock, rng=rng, **options)
    return adapted(kind(name, **options) if callable(kind) else kind, name, clock)


def adapted(thing: Any, name: str, clock: Clock) -> Storage:
    """Return *thing* as a storage: a ``Storage`` unchanged, a ``BaseStorage`` of huey 3.x in an adapter. Raise ConfigurationError for
    anything else."""
    from huey.storage.base import Storage
    from huey.storage.legacy import plugin

    return thing if isinstance(thing, Storage) else plugin.adapted(thing, name, clock)


def open_parts(queue: Any, store: Any, schedule: Any, events: Any, *, clock: Clock) -> Storage:
    """Return the storage of ``Huey(queue, result_store, schedule, events)``, made of the four components of 0.4.9."""
    from huey.storage.legacy.components import Components
    from huey.storage.legacy.storage import LegacyStorage

    return LegacyStorage(Components(queue, store, schedule, events), clock=clock)


def why_not(made: object, name: str, error: TypeError) -> str:
    """Return the message for *error*, with which making *made*, a Huey for the queue *name*, failed, with the option probably meant."""
    from huey.runtime.suggestions import did_you_mean, keywords_of, unknown_keyword

    who, word = f"{type(made).__name__}({name!r})", unknown_keyword(error)
    if word is None:
        return f"{who}: {error}; its docstring lists the options"
    kind = getattr(sys.modules[__name__], str(error).partition(".")[0], None)
    classes = (*type(made).__mro__, *getattr(kind, "__mro__", ()))
    indexes = [getattr(kind, "from_options", None), *(vars(it).get("__init__") for it in classes)]
    known = {option for index in indexes for option in keywords_of(index)}
    return f"{who}: unknown option {word!r}" + (did_you_mean(word, known - {"self", "cls"}) or "; its docstring lists the options")


def is_queue_part(thing: Any) -> bool:
    """Return True if *thing* is, or looks like, a queue component of 0.4.9 rather than a name."""
    return not isinstance(thing, str) and all(callable(getattr(thing, method, None)) for method in ("write", "read"))
