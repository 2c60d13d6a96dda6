"""Many tasks at once: map, enqueue_many, batch. Run it alone; it is its own consumer."""

import os
import tempfile

from huey import SqliteHuey

folder = tempfile.TemporaryDirectory()
huey = SqliteHuey("bulk", filename=os.path.join(folder.name, "bulk.db"))


@huey.task()
def double(number):
    return 2 * number


@huey.task()
def power(base, exponent):
    return base**exponent


def main():
    with folder:
        consumer = huey.create_consumer(workers=2)
        consumer.start()

        doubles = double.map(range(10_000))
        print("map:", sum(doubles.get(blocking=True)))

        mixed = huey.enqueue_many([double.s(21), power.s(2, exponent=10)])
        print("enqueue_many:", mixed.get(blocking=True))

        with huey.batch():
            results = [power(3, exponent) for exponent in range(5)]
        print("batch:", [result.get(blocking=True) for result in results])

        consumer.stop()
        huey.close()


if __name__ == "__main__":
    main()
