"""huey at work, in a few seconds: `make demo`, or `PYTHONPATH=src python3 examples/demo.py`.

Makes a folder with a fresh SQLite file, runs real consumers on it, kills one, and counts. Everything shown is checked: exit code 0 means
that each result was read and right, each effect happened as often as it should, and nothing is left in the queue. Leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
PATIENCE_S = 60.0
"""For any one thing; on a slow machine the demo takes longer, but it does not fail."""
SMALL_TASKS = 1000
PAGES = 10


class Failed(Exception):
    """The demo cannot go on, or what it found is not what huey promises."""


# -- the story --------------------------------------------------------------------------------------------------------------------------


def tell(demo: Demo) -> None:
    from demo_tasks import add, call_home, every_minute, remind, square, write_report

    say("A task is a function call that another process runs. Here is a queue in a fresh SQLite file; nothing else is needed.")
    first = demo.start_consumer()

    title("1. A task and its result")
    demo.check(add(2, 3), 5, "add(2, 3)")
    began = time.perf_counter()
    demo.check(add(20, 22), 42, "add(20, 22)")
    say(f"add(20, 22) was run by process {demo.worker}; its result, 42, was here {since(began)} after the call.")

    title("2. A task for later")
    began = time.perf_counter()
    reminder = remind.schedule(args=("milk",), delay=1)
    say(f"remind('milk') is to run in one second. Its result so far: {reminder.get()}.")
    demo.check(reminder, "remember the milk", "remind('milk')")
    say(f"{since(began)} after the call: 'remember the milk'.")

    title("3. A task that fails and is tried again")
    demo.check(call_home(), "hello, mother", "call_home()")
    for _, _, how, left in demo.diary("call_home"):
        say(f"call_home(), try {3 - int(left)}: {how}." + (f" {left} more allowed, half a second later." if how == "failed" else ""))

    title("4. A task that runs by the clock")
    tick = demo.until(lambda: demo.diary("every_minute"), "the periodic task")[0]
    say(f"Nobody calls {every_minute.__name__}(): process {tick[0]} runs it once in every minute, this one included.")

    title("5. Many small tasks")
    began = time.perf_counter()
    squares = square.map(range(SMALL_TASKS))
    say(f"{SMALL_TASKS:,} squares were enqueued within {since(began)}, kept on disk when the call returned.")
    demo.check(squares, [number * number for number in range(SMALL_TASKS)], "the squares", count=SMALL_TASKS)
    say(f"All results were here {since(began)} after the call: {SMALL_TASKS / (time.perf_counter() - began):,.0f} tasks a second.")

    title("6. A consumer that is killed in the middle of a task")
    report = demo.kill_in_the_middle_of(write_report, first)
    waiting = add(1, 1)
    say("No consumer runs now. add(1, 1) is enqueued all the same; it waits in the file.")
    demo.start_consumer()
    demo.check(report, f"a report of {PAGES} pages", "write_report")
    pages = [words[2] for words in demo.diary("page") if words[0] == str(demo.worker)]
    demo.expect("the pages of the second run", pages, [str(page) for page in range(1, PAGES + 1)])
    say(f"The new consumer took the task over: process {demo.worker} wrote pages 1 to {PAGES}, and the result is here.")
    demo.check(waiting, 2, "add(1, 1)")
    say("The task that waited has run too.")

    demo.close_down()


def verify(demo: Demo) -> None:
    """Hold what the diary says against what must have happened. Failed: it is not so."""
    runs = Counter(kind for _, kind, *_ in demo.diary())
    ticks = [words[2] for words in demo.diary("every_minute")]
    ordered_ticks = re.findall(r"periodic task enqueued: demo_tasks\.every_minute (\w+)", demo.log())
    demo.enqueued += len(ordered_ticks)
    demo.finished += len(set(ticks) & set(ordered_ticks))
    demo.expect("each tick ran once", sorted(ticks), sorted(ordered_ticks))
    demo.expect("each square ran once", sorted(int(words[2]) for words in demo.diary("square")), list(range(SMALL_TASKS)))
    demo.expect("add ran three times", runs["add"], 3)
    demo.expect("remind ran once", runs["remind"], 1)
    demo.expect("call_home ran three times", [words[2] for words in demo.diary("call_home")], ["failed", "failed", "worked"])
    demo.expect("each report was finished once", runs["report"], demo.reports)
    counts = demo.huey.storage.counts()
    demo.expect("nothing is left in the queue", tuple(counts), (0,) * len(counts))


# -- the stage --------------------------------------------------------------------------------------------------------------------------


class Demo:
    """A folder, at most one consumer, and the count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.consumer: subprocess.Popen[bytes] | None = None
        self.worker = 0
        self.enqueued = 0
        self.finished = 0
        self.reports = 0
        from demo_tasks import huey

        self.huey = huey

    def start_consumer(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "huey.cli.consumer", "demo_tasks.huey"]
        with open(self.folder / "consumer.log", "ab") as log:
            self.consumer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.worker = self.until(self.worker_of_consumer, "the consumer to start")
        say(f"A consumer runs: process {self.consumer.pid} watches, process {self.worker} runs the tasks.")
        return self.consumer

    def worker_of_consumer(self) -> int | None:
        """Pid of the worker process; None while there is none."""
        supervisor = f"{self.consumer.pid}:"
        return next((row.worker.pid for row in self.huey.storage.workers() if row.worker.supervisor.startswith(supervisor)), None)

    def kill_in_the_middle_of(self, write_report, consumer: subprocess.Popen[bytes]):
        """Kill -9 while the task runs; the handle of the task. On a machine so slow that the task was faster, once more."""
        while True:
            before = len(self.diary("page"))
            report = write_report(PAGES)
            self.reports += 1
            self.until(lambda: len(self.diary("page")) >= before + 3, "the first pages")  # noqa: B023 -- called at once
            consumer.kill()
            consumer.wait()
            if len(self.diary("report")) < self.reports:
                pages = len(self.diary("page")) - before
                say(f"write_report({PAGES}): process {self.worker} has written {pages} pages. Now: kill -9 {consumer.pid}.")
                return report
            consumer = self.start_consumer()
            self.check(report, f"a report of {PAGES} pages", "write_report")

    def close_down(self) -> None:
        """Ask the consumer to stop, as a service manager does, once nothing is left to run. A minute may begin just then: once more."""
        while True:
            self.until(lambda: not self.left_to_run(), "the queue to be empty")
            consumer, self.consumer = self.consumer, None
            consumer.terminate()
            self.expect("the consumer's exit code", consumer.wait(PATIENCE_S), 0)
            if not self.left_to_run():
                return
            self.start_consumer()

    def left_to_run(self) -> int:
        counts = self.huey.storage.counts()
        return counts.ready + counts.scheduled + counts.running

    def check(self, result, value: object, what: str, count: int = 1) -> None:
        """Wait for the result of a task that was enqueued (of *count* tasks), and count it."""
        self.enqueued += count
        self.expect(what, self.wait_for(result), value)
        self.finished += count

    def wait_for(self, result):
        from huey.exceptions import ResultTimeout

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return result.get(blocking=True, timeout=1)
            except ResultTimeout:
                self.be_patient(deadline, "a result")

    def until(self, fact, what: str):
        """Wait until *fact* returns something true, and return that."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := fact()):
            self.be_patient(deadline, what)
            time.sleep(0.01)
        return found

    def be_patient(self, deadline: float, what: str) -> None:
        if self.consumer is not None and self.consumer.poll() is not None:
            raise Failed(f"waited for {what}, but the consumer ended with code {self.consumer.returncode}")
        if time.monotonic() > deadline:
            raise Failed(f"waited {PATIENCE_S:.0f} seconds for {what}")

    def expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise Failed(f"{what}: expected {expected!r:.200}, found {found!r:.200}")

    def diary(self, kind: str | None = None) -> list[list[str]]:
        """What the tasks noted, as words: pid, kind, details."""
        lines = [line.split() for line in (self.folder / "diary.txt").read_text().splitlines()]
        return [words for words in lines if kind in (None, words[1])]

    def log(self) -> str:
        """What the consumers logged."""
        return (self.folder / "consumer.log").read_text(errors="replace")

    def clean_up(self) -> None:
        if self.consumer is not None:
            self.consumer.kill()
            self.consumer.wait()
        self.huey.close()


# -- the words --------------------------------------------------------------------------------------------------------------------------


def painted(text: str, colour: int) -> str:
    is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if is_plain else f"\033[{colour}m{text}\033[0m"


def title(text: str) -> None:
    print("\n" + painted(text, 1), flush=True)


def say(text: str) -> None:
    print("  " + text, flush=True)


def since(began: float) -> str:
    took = time.perf_counter() - began
    return f"{took:.2f} s" if took >= 0.5 else f"{1000 * took:.1f} ms"


def count(demo: Demo) -> bool:
    lost = demo.enqueued - demo.finished
    print("\n" + painted(f"enqueued {demo.enqueued:,}, done {demo.finished:,}, lost {lost}", 31 if lost else 32), flush=True)
    return lost == 0


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    home, folder = os.getcwd(), Path(tempfile.mkdtemp(prefix="huey-demo-"))
    demo = None
    try:
        settle_in(folder)
        demo = Demo(folder)
        tell(demo)
        verify(demo)
        return 0 if count(demo) else 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except Exception as failure:  # Whatever it is: who started the demo gets to see it, and the consumer's side of it.
        if not isinstance(failure, Failed):
            traceback.print_exc()
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        if demo is not None:
            print("The consumer's last words:\n" + "\n".join(demo.log().splitlines()[-20:]), file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if demo is not None:
            demo.clean_up()
        os.chdir(home)
        shutil.rmtree(folder)


def settle_in(folder: Path) -> None:
    """Work in the folder; let the consumers import what we import, and everybody keep compiled code there."""
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    import huey

    os.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES), str(Path(huey.__file__).resolve().parent.parent)])
    for name in [name for name in os.environ if name.startswith("HUEY_")]:
        del os.environ[name]
    os.chdir(folder)


if __name__ == "__main__":
    sys.exit(main())
