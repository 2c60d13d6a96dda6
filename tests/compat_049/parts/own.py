"""Parts as a user writes them: by the 0.4.9 page, with lists and dicts, and no word more than it asks for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from huey.backends.base import BaseDataStore, BaseEventEmitter, BaseQueue, BaseSchedule
from huey.utils import EmptyData


class ListQueue(BaseQueue):
    def __init__(self, name: str = "own") -> None:
        super().__init__(name)
        self.messages: list[Any] = []

    def write(self, data: Any) -> None:
        self.messages.append(data)

    def read(self) -> Any:
        return self.messages.pop(0) if self.messages else None

    def remove(self, data: Any) -> int:
        count = self.messages.count(data)
        self.messages = [message for message in self.messages if message != data]
        return count

    def flush(self) -> None:
        self.messages.clear()

    def __len__(self) -> int:
        return len(self.messages)


class DictStore(BaseDataStore):
    def __init__(self, name: str = "own") -> None:
        super().__init__(name)
        self.values: dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        self.values[key] = value

    def peek(self, key: str) -> Any:
        return self.values.get(key, EmptyData)

    def get(self, key: str) -> Any:
        return self.values.pop(key, EmptyData)

    def flush(self) -> None:
        self.values.clear()


class ListSchedule(BaseSchedule):
    def __init__(self, name: str = "own") -> None:
        super().__init__(name)
        self.items: list[tuple[datetime, Any]] = []

    def add(self, data: Any, timestamp: datetime) -> None:
        self.items.append((timestamp, data))

    def read(self, timestamp: datetime) -> list[Any]:
        due = [data for time, data in sorted(self.items) if time <= timestamp]
        self.items = [item for item in self.items if item[0] > timestamp]
        return due

    def flush(self) -> None:
        self.items.clear()


class ListEmitter(BaseEventEmitter):
    def __init__(self, channel: str = "own") -> None:
        super().__init__(channel)
        self.texts: list[str] = []

    def emit(self, data: str) -> None:
        self.texts.append(data)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]


class FolderQueue(BaseQueue):
    """A file for each message, so that another process finds it. Texts only."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name, folder=folder)
        self._folder = Path(folder)
        self._folder.mkdir(exist_ok=True)

    def write(self, data: Any) -> None:
        text = data.decode("ascii")
        number = len(list(self._folder.iterdir())) + sum(1 for _ in self._folder.glob("*.done"))
        path = self._folder / f"{number:06}-{abs(hash(text))}.new"
        path.write_text(text)
        path.rename(path.with_suffix(".message"))

    def read(self) -> Any:
        for path in sorted(self._folder.glob("*.message")):
            try:
                return path.rename(path.with_suffix(".done")).read_text()
            except FileNotFoundError:
                continue
        return None

    def __len__(self) -> int:
        return len(list(self._folder.glob("*.message")))


class FolderStore(BaseDataStore):
    """A file for each value."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name, folder=folder)
        self._folder = Path(folder)
        self._folder.mkdir(exist_ok=True)

    def put(self, key: str, value: Any) -> None:
        path = self._folder / key
        new = path.with_suffix(".new")
        new.write_text(value.decode("ascii"))
        new.rename(path)

    def peek(self, key: str) -> Any:
        try:
            return (self._folder / key).read_text()
        except FileNotFoundError:
            return EmptyData

    def get(self, key: str) -> Any:
        value = self.peek(key)
        (self._folder / key).unlink(missing_ok=True)
        return value
