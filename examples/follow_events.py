"""What happens to tasks, told live as JSON. Run it alone; it is its own consumer."""

import json
import os
import tempfile

from huey import SqliteHuey

folder = tempfile.TemporaryDirectory()
huey = SqliteHuey("events", filename=os.path.join(folder.name, "events.db"))


@huey.task(retries=1)
def divide(a, b):
    return a / b


def main():
    with folder:
        events = huey.events()  # From now on.
        divide(1, 0)
        consumer = huey.create_consumer()
        consumer.start()

        for text in events:
            event = json.loads(text)
            print(event["status"], event["task"], "retries left:", event["retries"])
            if event["status"] == "error":
                print("  " + event["traceback"].splitlines()[-1])
                if event["retries"] == 0:
                    break

        consumer.stop()
        huey.close()


if __name__ == "__main__":
    main()
