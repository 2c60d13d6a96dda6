"""Ids: unique, in order of time, and of one form however they are made."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from threading import Thread

from huey.runtime.clock import Ids, system_rng
from huey.testing.clock import FakeClock


def test_ids_have_32_hex_digits_and_come_in_order() -> None:
    clock = FakeClock()
    make = Ids(clock, system_rng)

    made = [make(), *make.many(300), make()]
    clock.forward(1)
    made += [*make.many(2), make()]

    assert all(len(id) == 32 and int(id, 16) >= 0 for id in made)
    assert made == sorted(set(made))
    assert make.many(0) == []


def test_who_knows_one_id_can_guess_no_other() -> None:
    clock = FakeClock()
    make = Ids(clock, system_rng)
    made = [*make.many(3000), *(make() for _ in range(3000))]
    numbers = [int(id[12:], 16) for id in made]

    steps = [later - former for former, later in pairwise(numbers)]
    clock.forward(1)
    anew = int(make()[12:], 16)

    assert len(set(steps)) == len(steps)
    assert min(steps) > 0
    assert sum(step.bit_length() > 50 for step in steps) > 0.9 * len(steps)
    assert abs(anew - numbers[-1]).bit_length() > 64
    assert abs(int(Ids(clock, system_rng)()[12:], 16) - anew).bit_length() > 64


def test_chance_comes_from_the_given_rng() -> None:
    one, same = (Ids(FakeClock(), random.Random(5)) for _ in range(2))
    assert [one(), *one.many(1000), one()] == [same(), *same.many(1000), same()]


def test_ids_of_many_threads_differ() -> None:
    make = Ids(FakeClock(), system_rng)
    made: list[str] = []
    threads = [Thread(target=lambda: made.extend(make() for _ in range(2000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16_000
    assert {len(id) for id in made} == {32}


def test_ids_stay_of_one_length_when_a_moment_has_very_many() -> None:
    make = Ids(FakeClock(), system_rng)
    make()
    make._last = (1 << 80) - 1
    make._go_on()
    assert len(make()) == 32


def test_a_forked_child_shares_no_id_with_its_parent() -> None:
    make = Ids(FakeClock(), system_rng)
    make.many(2)
    reader, writer = os.pipe()

    if (child := os.fork()) == 0:
        os.write(writer, make.many(1)[0].encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs, ours = os.read(reader, 32).decode(), make()
    os.close(reader)

    assert theirs[:12] == ours[:12]
    assert theirs[12:20] != ours[12:20]
