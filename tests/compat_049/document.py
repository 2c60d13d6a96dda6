"""Examples of the 0.4.9 document, run on the server of these tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.redis_server import shared_server

Load = Callable[..., Any]

FAST = {"scheduler_interval": 1.0, "periodic_task_interval": 0.05}


def on_server(text: str) -> str:
    """The example, on the server of these tests."""
    place = f"host='127.0.0.1', port={shared_server().port}"
    for given in ("host='redis.myapp.com'", "host='localhost', port=6379", "host='localhost'"):
        text = text.replace(given, place)
    text = text.replace("{'host': 'localhost', 'port': 6379}", f"{{'host': '127.0.0.1', 'port': {shared_server().port}}}")
    # Where the document trusts in the default, localhost:6379.
    for name in ("RedisHuey", "RedisBlockingQueue", "RedisDataStore", "RedisSchedule"):
        text = text.replace(f"{name}()", f"{name}({place})").replace(f"{name}('my-app')", f"{name}('my-app', {place})")
        text = text.replace(f"{name}(name='foo')", f"{name}(name='foo', {place})")
    return text


CONFIG = """
    # config.py
    from huey import RedisHuey

    huey = RedisHuey('test-queue', host='localhost', port=6379)
"""
TASKS = """
    from config import huey

    @huey.task()
    def count_beans(num):
        print('-- counted %s beans --' % num)
        return 'Counted %s beans' % num
"""


HUEY_SETTINGS = """{
    'backend': 'huey.backends.redis_backend', # required.
    'name': 'unique name',
    'connection': {'host': 'localhost', 'port': 6379},
    # Options to pass into the consumer when running ``manage.py run_huey``
    'consumer_options': {'workers': 4},
}"""
DO = "from beans.tasks import count_beans\nprint(count_beans(100).get(blocking=True, timeout=20))\n"
