"""The contract of storages as tests, to be run on every storage.

    class TestMine(StorageContract):
        @pytest.fixture
        def clock(self): return FakeClock()

        @pytest.fixture
        def storage(self, clock): ...     # open and empty, running by that clock

        @pytest.fixture
        def another(self): ...            # a callable: a second handle on the same data, as another process has it

A test's name is the rule it holds up. To see more of a failure: ``pytest.register_assert_rewrite("huey.testing.contract")`` in conftest.py.
"""

from __future__ import annotations

from huey.testing.contract.again import AgainRevokedRules, AgainRules
from huey.testing.contract.claims import ClaimRules
from huey.testing.contract.constraints import LimitRules, UniqueRules
from huey.testing.contract.deaths import DeathRules
from huey.testing.contract.durations import DurationRules
from huey.testing.contract.edges import JoinRules, ThenRules
from huey.testing.contract.emptying import EmptyingRules, EmptyingRunningRules, EmptyingTermRules
from huey.testing.contract.enqueueing import EnqueueRules
from huey.testing.contract.events import EventRules
from huey.testing.contract.finishes import FinishRules
from huey.testing.contract.history import AttemptRules, KeepingRules
from huey.testing.contract.house import HouseRules
from huey.testing.contract.interrupted import InterruptedRules, InterruptedTermRules
from huey.testing.contract.kept import KeptRules
from huey.testing.contract.locks import LockRules, RateRules
from huey.testing.contract.looking import LookingRules
from huey.testing.contract.missing import MissingRules
from huey.testing.contract.rates import TaskRateRules
from huey.testing.contract.retrying import RetryingRules
from huey.testing.contract.revocations import RevocationRules
from huey.testing.contract.statistics import StatisticsRules
from huey.testing.contract.ticks import TickRules
from huey.testing.contract.values import ValueRules
from huey.testing.contract.waking import WakingRules
from huey.testing.contract.wall_times import WallRevocationRules
from huey.testing.contract.workflows import WorkflowRules

__all__ = ["EdgeRules", "KeepingRules", "SharingRules", "StorageContract"]


class EdgeRules(ThenRules, JoinRules, WorkflowRules, KeptRules):
    """Every sentence of ``huey.storage.base`` about tasks that wait for others, and about those that are kept, as tests: for storages that
    keep workflows."""


class SharingRules(
    UniqueRules, AgainRules, AgainRevokedRules, LimitRules, TaskRateRules, LockRules, RateRules, EmptyingTermRules, InterruptedTermRules
):
    """Every sentence of ``huey.storage.locks``, as tests: for storages that keep terms."""


class StorageContract(
    EnqueueRules,
    ClaimRules,
    FinishRules,
    MissingRules,
    DurationRules,
    DeathRules,
    TickRules,
    RevocationRules,
    WallRevocationRules,
    RetryingRules,
    WakingRules,
    EventRules,
    LookingRules,
    AttemptRules,
    StatisticsRules,
    ValueRules,
    EmptyingRules,
    EmptyingRunningRules,
    HouseRules,
    InterruptedRules,
):
    """Every sentence of ``huey.storage.base``, as tests."""
