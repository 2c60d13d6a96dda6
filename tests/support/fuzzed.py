"""Messages that were made by chance: real ones that were damaged, and rows of opcodes that nobody's pickler writes."""

from __future__ import annotations

import collections
import datetime
import decimal
import pickle
import random
import uuid
import zlib
from collections.abc import Iterator

LONGEST = 64 * 1024
"""Bytes of a message."""

_SIMPLE = b"N\x88\x89)t(\x85\x86\x87]ae}su\x8f\x90\x91\x94R\x81b\x9301"
_PARTS = (
    b"K\x01",
    b"M\x01\x02",
    b"J\xff\xff\xff\xff",
    b"J\xfe\xff\xff\xff",
    b"G" + bytes(8),
    b"\x8a\x0a" + bytes(9) + b"\x20",
    b"\x8b\x02\0\0\0\x01\x02",
    b"\x8c\x01a",
    b"X\x02\0\0\0ab",
    b"C\x01x",
    b"\x96\x01" + bytes(7) + b"y",
    b"\x95" + bytes(8),
    b"h\x00",
    b"h\x01",
    b"h\x02",
    b"j\x03\0\0\0",
    b"\x8c\x0bcollections\x8c\x05deque\x93",
    b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93",
    b"\x8c\x08builtins\x8c\x05slice\x93",
    b"\x8c\x07decimal\x8c\x07Decimal\x93",
    b"\x8c\x04uuid\x8c\x04UUID\x93",
)
_SAMPLES = tuple(
    pickle.dumps(value, 5)
    for value in (
        [1, 2.5, "text", None, True, b"bytes", (1, 2), {"a": [1]}, {1, 2}, frozenset([3])],
        {"when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "what": decimal.Decimal("1.5"), "id": uuid.UUID(int=5)},
        [collections.deque([1, 2], 3), collections.OrderedDict(a=1), slice(1, 2), range(3), 2**100, bytearray(b"x")],
        [[1, "shared"]] * 5,
    )
)


def messages(rng: random.Random, count: int) -> Iterator[bytes]:
    """So many messages of at most ``LONGEST`` bytes, as they may stand in a store."""
    for _ in range(count):
        body = _damaged(rng) if rng.random() < 0.4 else _of_opcodes(rng)
        flags = rng.choice((0, 0, 0, 1, 4, 8))
        if flags >= 4:
            body = zlib.compress(body, 1, 31 if flags == 4 else 15)
        yield bytes((1, flags)) + body[: LONGEST - 2]


def _damaged(rng: random.Random) -> bytes:
    body = bytearray(rng.choice(_SAMPLES))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(body))
        body[at : at + rng.randrange(3)] = rng.choice(_PARTS) if rng.random() < 0.5 else rng.randbytes(rng.randrange(3))
    return bytes(body)


def _of_opcodes(rng: random.Random) -> bytes:
    parts = [b"\x80\x05"]
    for _ in range(rng.randrange(1, 60)):
        part = bytes((rng.choice(_SIMPLE),)) if rng.random() < 0.6 else rng.choice(_PARTS)
        # Now and then a row of it, or of all that is there so far.
        luck = rng.random()
        parts.append(part * rng.choice((100, 2000, 20_000)) if luck < 0.02 else part)
        if luck > 0.99:
            parts.append(b"".join(parts[1:])[:2000] * rng.randrange(2, 20))
    return b"".join(parts) + b"."
