"""Options of presets and of consumers, by name."""

from __future__ import annotations

from huey import MemoryHuey, RedisHuey, SqliteHuey

SqliteHuey("app", filename="app.db", fsync=True, result_ttl=None, keep_finished=100)
SqliteHuey("app", filname="app.db")  # E
SqliteHuey("app", fsync="yes")  # E
RedisHuey("app", url="redis://localhost", durable=True, health_check_interval=3)
MemoryHuey("app", immediate=True)

huey = MemoryHuey("app")
huey.create_consumer(workers=4, worker_type="process", periodic=False, shutdown_timeout=5)
huey.create_consumer(wokers=4)  # E
huey.create_consumer(workers="four")  # E
huey.create_consumer(worker_type="threads")  # E
