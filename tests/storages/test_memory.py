"""The storage in memory keeps the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from huey.storage.base import Storage
from huey.storage.helpers import CHUNK, in_chunks
from huey.storage.memory import MemoryStorage
from huey.testing.clock import FakeClock
from huey.testing.contract import EdgeRules, KeepingRules, SharingRules, StorageContract
from huey.testing.contract.tools import Another, task


class TestMemory(StorageContract, KeepingRules, SharingRules, EdgeRules):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def storage(self, clock: FakeClock) -> Storage:
        return MemoryStorage("test", clock=clock)

    @pytest.fixture
    def another(self, storage: Storage) -> Another:
        return lambda: storage

    @pytest.fixture
    def keeping(self, clock: FakeClock) -> Callable[..., Storage]:
        return lambda keep_finished: MemoryStorage("test", clock=clock, keep_finished=keep_finished)


def test_results_can_be_kept_for_ever() -> None:
    assert MemoryStorage().result_ttl == 7 * 86400
    assert MemoryStorage(result_ttl=None).result_ttl is None


def test_two_storages_share_nothing() -> None:
    one, other = MemoryStorage("same"), MemoryStorage("same")

    one.enqueue([task()])

    assert other.find() == []


def test_a_long_backlog_goes_in_by_chunks() -> None:
    records = [task(str(n)) for n in range(2 * CHUNK + 1)]

    chunks = list(in_chunks(records))

    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert [record for chunk in chunks for record in chunk] == records
