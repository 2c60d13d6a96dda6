"""``python -m huey.bin.huey_consumer``: the consumer command by its path in 3.x."""

import sys

from huey.cli.consumer import main as consumer_main

if __name__ == "__main__":
    sys.exit(consumer_main())
