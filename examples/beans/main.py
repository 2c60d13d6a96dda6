"""Counts beans elsewhere. First start a consumer in this folder: huey_consumer main.huey

The consumer imports this module for its `huey`; so the tasks are imported here too.
"""

from config import huey  # noqa: F401 -- main.huey is what the consumer is given
from tasks import count_beans

if __name__ == "__main__":
    beans = int(input("How many beans? "))
    result = count_beans(beans)
    print(f"Enqueued job to count {beans} beans")
    print(result.get(blocking=True))
