"""Naive times that are not converted, on each storage: in memory, in SQLite, in Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from huey import Huey
from huey.testing.clock import FakeClock
from tests.compat_049.wall_times import NEW_YORK, TOKYO, Make, SetZone, WallTimeRules, run_next, wall
from tests.support.helpers import Project, wait_until


class TestWallTimes(WallTimeRules):
    @pytest.fixture
    def make(self, make_huey: Callable[..., Huey]) -> Make:
        return make_huey

    def test_it_holds_its_unique_key_until_it_starts(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        task = huey.task(unique=True, unique_for="waiting")(lambda: "ran")
        first = task.schedule(eta=wall(clock, TOKYO) + timedelta(hours=1), convert_utc=False)
        run_next(huey)

        assert task().id == first.id
        clock.forward(3600)
        assert run_next(huey) == "ran"

    def test_signed_too(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False, secret="a long secret text")
        set_zone(NEW_YORK)
        huey.task()(lambda: "ran").schedule(eta=wall(clock, TOKYO) + timedelta(seconds=60), convert_utc=False, expires=5)

        set_zone(TOKYO)
        assert run_next(huey) is None
        clock.forward(60)
        assert run_next(huey) == "ran"

    def test_a_task_shows_its_wall_time_until_a_consumer_has_read_it(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=True)
        set_zone(TOKYO)
        eta = datetime(2031, 5, 6, 7, 8, 9)

        handle = huey.task()(lambda: None).schedule(eta=eta, convert_utc=False)

        assert handle.task.eta == eta
        assert [task.eta for task in huey.scheduled()] == [eta]

    def test_one_that_is_put_back_by_hand_runs_at_once(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        handle = huey.task()(lambda: "ran").schedule(eta=wall(clock, TOKYO) + timedelta(seconds=60), convert_utc=False, expires=10)
        run_next(huey)
        handle.revoke()
        clock.forward(60)
        assert run_next(huey) is None

        clock.forward(3600)
        assert huey.inspector.retry(handle.id) == [handle.id]

        assert run_next(huey) == "ran"

    def test_handlers_hear_that_it_was_scheduled(self, make: Make, clock: FakeClock, set_zone: SetZone) -> None:
        huey = make(clock=clock, utc=False)
        set_zone(TOKYO)
        told: list[tuple[str, Any]] = []
        huey.signal()(lambda signal, task, *extra: told.append((signal, task.eta)))
        eta = wall(clock, TOKYO) + timedelta(seconds=60)
        huey.task()(lambda: "ran").schedule(eta=eta, convert_utc=False)

        run_next(huey)

        assert told == [("enqueued", eta), ("scheduled", eta)]


STAMP = """
import time

@huey.task()
def stamp():
    return time.time()
"""


@pytest.mark.parametrize(("flags", "reads"), [(["--localtime"], TOKYO), ([], "UTC")])
def test_S35_a_wall_time_of_another_zone_before_the_first_start(flags: list[str], reads: str, project: Project, set_zone: SetZone) -> None:
    project.write(STAMP)
    set_zone(NEW_YORK)
    eta = datetime.now(ZoneInfo(reads)).replace(microsecond=0) + timedelta(seconds=2)
    handle = project.task("main.stamp").schedule(eta=eta.replace(tzinfo=None), convert_utc=False)

    consumer = project.start("main.huey", *flags, TZ=TOKYO)

    assert eta.timestamp() <= handle.get(blocking=True, timeout=30) < eta.timestamp() + 20
    assert consumer.stop() == 0


UTC_FALSE = """
from datetime import datetime, timezone
huey.utc = False

def note(dt):
    utc = datetime.now(timezone.utc).replace(tzinfo=None)
    with open('seen', 'a') as seen:
        seen.write('utc\\n' if abs((dt - utc).total_seconds()) < 7200 else 'local\\n')
    return False

huey.periodic_task(note)(lambda: None)
"""


@pytest.mark.parametrize(("flags", "clock"), [([], "local"), (["-u"], "utc"), (["--utc"], "utc"), (["--localtime"], "local")])
def test_without_utc_the_consumer_is_on_local_time(flags: list[str], clock: str, project: Project) -> None:
    project.write(UTC_FALSE)

    consumer = project.start("main.huey", *flags, TZ=TOKYO)

    seen = project.home / "seen"
    wait_until(lambda: seen.exists() and seen.read_text(), told=lambda: consumer.log)
    assert consumer.stop() == 0
    assert set(seen.read_text().split()) == {clock}
