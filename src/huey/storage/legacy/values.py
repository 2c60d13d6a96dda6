"""Small values in the result store of a 0.4.9 queue: results under the task's id, all others under ``<kind>:<key>``.

A value is stored as ``<expiry time or nothing>:<base64>``, in ASCII, so that any store can keep it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

from huey.exceptions import DataStoreGetException, DataStorePutException, QueueException
from huey.runtime.clock import Clock, micros
from huey.storage.base import FOREVER
from huey.storage.legacy.components import translating_errors, unsupported
from huey.storage.rows import Revocation
from huey.utils import EmptyData

TASK, NAME = "r", "rn"
"""Kinds of revocations: of one task, and of all tasks of a name."""


class Values:
    """A store of values by kind and key. With *store* None they cannot be stored, and reading finds none."""

    def __init__(self, store: Any, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._settings: dict[str, bytes] = {}
        """Values that a consumer stores for itself, which are kept out of the user's store."""

    def put(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> None:
        if self._is_private(kind):
            self._settings[key] = value
            return
        with translating_errors(DataStorePutException, self._needed, "put"):
            self._needed.put(_key(kind, key), self._wrapped(value, ttl))

    def put_if_empty(self, kind: str, key: str, value: bytes, ttl: float | None = None) -> bool:
        if not hasattr(self._needed, "put_if_empty"):
            raise unsupported("put_if_empty", self._store)
        with translating_errors(DataStorePutException, self._store, "put_if_empty"):
            there = self._store.peek(_key(kind, key))
            if there is not EmptyData and self._unwrapped(there) is None:
                # Expired, but still stored.
                self._store.get(_key(kind, key))
            return bool(self._store.put_if_empty(_key(kind, key), self._wrapped(value, ttl)))

    def peek(self, kind: str, key: str) -> bytes | None:
        if self._is_private(kind):
            return self._settings.get(key)
        return self._read("peek", kind, key)

    def pop(self, kind: str, key: str) -> bytes | None:
        if self._is_private(kind):
            return self._settings.pop(key, None)
        return self._read("get", kind, key)

    def items(self, kind: str) -> dict[str, bytes]:
        if not hasattr(self._needed, "items"):
            raise unsupported("listing values", self._store)
        with translating_errors(DataStoreGetException, self._store, "items"):
            found = self._store.items()
        prefix = f"{kind}:"
        values = {key.removeprefix(prefix): self._unwrapped(data) for key, data in found.items() if _is_of(kind, key)}
        return {key: value for key, value in values.items() if value is not None}

    def store_dead_letter(self, data: Any) -> str:
        """Store *data*, which is not a huey message, unchanged under its checksum. Return the key, or nothing without a store."""
        if self._store is None:
            return ""
        raw = _bytes(data)
        key = f"dead:{sha256(raw).hexdigest()[:16]}"
        with translating_errors(DataStorePutException, self._store, "put"):
            self._store.put(key, data)
        return key

    def flush(self) -> None:
        self._settings.clear()
        if self._store is not None:
            with translating_errors(DataStorePutException, self._store, "flush"):
                self._store.flush()

    # -- revocations --------------------------------------------------------------------------------------------------------------------

    def put_revocation(self, kind: str, key: str, put_revocation: Revocation) -> None:
        self.put(kind, key, json.dumps(put_revocation).encode("ascii"))

    def revocation_of(self, kind: str, key: str) -> Revocation | None:
        data = self.peek(kind, key)
        if data is None:
            return None
        try:
            until, once = json.loads(data)
            return Revocation(int(until), bool(once))
        except (TypeError, ValueError):
            # Written by another program. A revoked task must not run by mistake.
            return Revocation(FOREVER, False)

    def drop_revocation(self, kind: str, key: str) -> bool:
        return self.pop(kind, key) is not None

    @property
    def _needed(self) -> Any:
        if self._store is None:
            raise QueueException("this Huey has no result store; give one, Huey(queue, result_store=...)")
        return self._store

    def _is_private(self, kind: str) -> bool:
        return kind == "setting" and not hasattr(self._store, "items")

    def _read(self, method: str, kind: str, key: str) -> bytes | None:
        if self._store is None:
            return None
        with translating_errors(DataStoreGetException, self._store, method):
            data = getattr(self._store, method)(_key(kind, key))
        return None if data is EmptyData else self._unwrapped(data)

    def _wrapped(self, value: bytes, ttl: float | None) -> bytes:
        end = "" if ttl is None else str(self._clock.now() + micros(ttl))
        return end.encode("ascii") + b":" + b64encode(value)

    def _unwrapped(self, data: Any) -> bytes | None:
        """Return the value, or None if it has expired."""
        raw = _bytes(data)
        end, colon, body = raw.partition(b":")
        if not colon:
            return raw
        try:
            value = b64decode(body, validate=True)
            return None if end and int(end) <= self._clock.now() else value
        except ValueError:
            # Not written by huey: the serializer will report that.
            return raw


def _bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "surrogateescape")


def _key(kind: str, key: str) -> str:
    return key if kind == "result" and ":" not in key else f"{kind}:{key}"


def _is_of(kind: str, key: str) -> bool:
    return key.startswith(f"{kind}:") or (kind == "result" and ":" not in key)
