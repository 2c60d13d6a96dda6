"""The queue: a SQLite file beside the program."""

from huey import SqliteHuey

huey = SqliteHuey("beans", filename="beans.db")
