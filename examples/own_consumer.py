"""A program that is its own consumer, with a queue in memory: background work without a second process, and without a file."""

from huey import MemoryHuey

huey = MemoryHuey("own")


@huey.task()
def shout(word):
    return word.upper() + "!"


def main():
    consumer = huey.create_consumer(workers=4)
    consumer.start()
    results = [shout(word) for word in ("tea", "milk", "sugar")]
    print(*[result.get(blocking=True) for result in results])
    consumer.stop()  # Running tasks may end; what waits in memory is gone with the program.


if __name__ == "__main__":
    main()
