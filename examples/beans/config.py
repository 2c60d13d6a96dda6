"""The queue: a SQLite file beside the program. For a queue in Redis the last line is: huey = RedisHuey("beans")"""

from huey import RedisHuey, SqliteHuey  # noqa: F401 -- either will do

huey = SqliteHuey("beans", filename="beans.db")
