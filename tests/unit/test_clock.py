"""Ids: unique, in order of time, and of one form however they are made."""

from __future__ import annotations

import os

from huey.clock import Ids, system_rng
from huey.testing.clock import TurnableClock


def test_ids_have_32_hex_digits_and_come_in_order() -> None:
    clock = TurnableClock()
    make = Ids(clock, system_rng)

    made = [make(), *make.many(300), make()]
    clock.forward(1)
    made += [*make.many(2), make()]

    assert all(len(id) == 32 and int(id, 16) >= 0 for id in made)
    assert made == sorted(set(made))
    assert make.many(0) == []


def test_a_forked_child_shares_no_id_with_its_parent() -> None:
    make = Ids(TurnableClock(), system_rng)
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
