"""The storage in Redis or Valkey, for any number of consumers on any number of hosts. Needs redis-py: ``pip install redis hiredis``."""

from huey.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
