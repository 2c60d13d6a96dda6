"""What the consumer can do."""

from datetime import datetime

from config import huey

from huey import crontab


@huey.task()
def count_beans(number):
    print(f"-- counted {number} beans --", flush=True)
    return f"Counted {number} beans"


@huey.task(retries=3, retry_delay=1)
def try_thrice():
    print("trying....", flush=True)
    raise Exception("nope")


@huey.periodic_task(crontab(minute="*"))
def print_time():
    print(datetime.now(), flush=True)
