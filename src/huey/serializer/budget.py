"""Limits on the cost of reading a message, counted before any of it is built.

A few bytes can stand for gigabytes (a list that is copied ten thousand times), for hours (keys with the same hash), or for a crash
(containers nested a hundred thousand deep). So the opcodes of a pickle are followed with weights in place of values: each object, item, and
copy by a constructor adds its cost. Time is not measured: every machine accepts or refuses the same messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import error as StructError
from struct import iter_unpack, unpack_from
from typing import Any

from huey.exceptions import DecodeError
from huey.serializer import weights

LEAST = 64_000_000
"""Bytes that any message may take."""
TIMES = 16
"""A long message may take this many times its own bytes."""
DEEPEST = 1000
"""Most levels of nested containers."""
MOST_WIDE = 1000
"""Most keys that are such integers."""

_GROWTH = 128
"""Python may take this many times the stored bytes, or ``LEAST``; the limit for long messages does not apply to compressed ones."""
_COMPARED = 64
"""Cost of comparing two keys with the same hash; the total may reach ``LEAST``."""
_REPEATED = 16
"""The written-out size of a value with repetition (the same list in many places) may reach this many times the limit."""


def budget(size: int) -> int:
    """Return how many bytes a message of *size* stored bytes may take when it is read."""
    return max(LEAST, TIMES * size)


def most_memory(stored: int) -> int:
    """Return how many bytes Python itself may take for a message of *stored* bytes."""
    return max(LEAST, _GROWTH * stored)


def check_pickle(body: bytes, limit: int, stored: int | None = None) -> None:
    """Raise DecodeError if reading *body* takes more than *limit* bytes, or if it has opcodes that huey's pickler does not write. *stored*:
    size of the message, if *body* was compressed."""
    if not weights.is_harmless(body):
        _Count(body, limit, most_memory(len(body) if stored is None else stored)).run()


# -- pickles ------------------------------------------------------------------------------------------------------------------------------

_GROWING = (weights.LIST, weights.DICT, weights.SETS, weights.MADE)
_NUMERIC = ("decimal.Decimal", "fractions.Fraction")
_CONTAINERS = {"collections.OrderedDict": weights.ORDERED, "collections.deque": weights.DEQUE}
_LONG_ARGUMENTS = 3 * 4 * 4300
"""Most bytes that copies of a constructor's arguments take; each is read once more when it is made."""
_SHORT_ARGUMENTS = 400
"""Copies of these are covered by the cost of a number."""
_HASHED_BY_CHANCE = ("datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone", "zoneinfo.ZoneInfo")


class _Count:
    """The counter that follows one pickle."""

    def __init__(self, body: bytes, limit: int, most: int) -> None:
        self._body = body
        self._limit = limit
        self._most = most
        self._taken = self._real = len(body)
        self._work = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._wide = 0
        self._frame_end = 0
        self._slack = 0
        """Levels that were added to containers after these were put into others."""

    def run(self) -> None:
        body, at, last = self._body, 0, len(self._body) - 1
        try:
            while body[at] != 46:  # The STOP opcode.
                at = _OPCODES[body[at]](self, at + 1)
        except DecodeError:
            raise
        except (IndexError, KeyError, TypeError, AttributeError, ValueError, StructError):  # An unpickler would fail on these as well.
            at = -1
        if at != last:
            raise DecodeError("not a pickle that huey writes, or damaged")

    def _take(self, weight: int, more: int = 0) -> None:
        """Add *weight*. *more*: what Python takes beyond it."""
        self._taken += weight
        self._real += weight + more
        if self._taken > self._limit:
            weights.raise_over_budget(f"takes more than {self._limit:,} bytes when it is read")
        if self._real > self._most:
            weights.raise_over_budget(f"takes more than {self._most:,} bytes when it is read")

    def _toil(self, work: int, what: str) -> None:
        self._work += work
        if self._work > LEAST:
            weights.raise_over_budget(f"has too many {what}")

    # -- opcodes: each is given the position of its argument, and returns that of the next opcode ----------------------------------------

    def on_protocol(self, at: int) -> int:
        if self._body[at] != 5:
            raise ValueError
        return at + 1

    def on_frame(self, at: int) -> int:
        end = at + 8 + int.from_bytes(self._body[at : at + 8], "little")
        if at < self._frame_end or end > len(self._body):
            raise ValueError
        self._frame_end = end
        return at + 8

    def on_constant(self, at: int) -> int:
        count = self._repeated(at)
        self._take(0, weights.SLOT_SIZE * count)
        self._stack += [{78: None, 136: True, 137: False}[self._body[at - 1]]] * count
        return at - 1 + count

    def _repeated(self, at: int) -> int:
        """Return how often the opcode before *at* is repeated in a row."""
        if self._body[at] != self._body[at - 1]:
            return 1
        match = _ROW_OF[self._body[at - 1]].match(self._body, at)
        return 1 if match is None else 1 + match.end() - at

    def on_integers(self, at: int) -> int:
        """Count a whole row of integers at once."""
        pattern, size, form, weight = _ROWS[self._body[at - 1]]
        match = pattern.match(self._body, at - 1)
        if match is None:
            raise IndexError
        row = match[0]
        self._take(weight * (len(row) // size), weights.SLOT_SIZE * (len(row) // size))
        self._stack += [value for (value,) in iter_unpack(form, row)]
        return match.end()

    def on_float(self, at: int) -> int:
        self._take(weights.INT)
        self._stack += unpack_from(">d", self._body, at)
        return at + 8

    def on_integer(self, at: int) -> int:
        start, end = self._counted(at, {138: 1, 139: 4}[self._body[at - 1]])
        self._take(weights.INT, weights.POINTER + end - start)
        self._stack.append(int.from_bytes(self._body[start:end], "little", signed=True))
        return end

    def on_text(self, at: int) -> int:
        start, end = self._counted(at, _TEXT_COUNTS[self._body[at - 1]])
        text = self._body[start:end]
        if end - start <= weights.SHORT_TEXT:
            self._take(weights.OBJECT)
            self._stack.append(text)
        else:
            # A single character may make all of them four bytes wide.
            self._take(weights.OBJECT, weights.NODE + (0 if text.isascii() else 3 * len(text)))
            node = weights.Node(weights.TEXT, weights.POINTER, 0, size=weights.POINTER + 4 * len(text))
            node.hash = id(node)
            self._stack.append(node)
        return end

    def on_bytearray(self, at: int) -> int:
        start, end = self._counted(at, 8)
        self._take(weights.OBJECT, weights.NODE + end - start)
        self._stack.append(weights.Node(weights.LIST, size=end - start))
        return end

    def _counted(self, at: int, size: int) -> tuple[int, int]:
        start = at + size
        end = start + int.from_bytes(self._body[at:start], "little")
        if end >= len(self._body) or start < self._frame_end < end:
            raise IndexError
        return start, end

    def on_empty(self, at: int) -> int:
        kind, more = _EMPTY[self._body[at - 1]]
        count = self._repeated(at)
        self._take(weights.OBJECT * count, more * count)
        self._stack += [weights.Node(kind) for _ in range(count)]
        return at - 1 + count

    def on_empty_tuple(self, at: int) -> int:
        self._take(0, weights.SLOT_SIZE)
        self._stack.append(_NO_ITEMS)
        return at

    def on_mark(self, at: int) -> int:
        count = self._repeated(at)
        self._take(0, weights.SLOT_SIZE * count)
        self._marks += [len(self._stack)] * count
        return at - 1 + count

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop(self) -> Any:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError
        return self._stack.pop()

    def _top(self) -> weights.Node:
        node = self._stack[-1]
        if not isinstance(node, weights.Node) or node.kind not in _GROWING:
            raise TypeError
        return node

    def on_pop(self, at: int) -> int:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()
        return at

    def on_pop_mark(self, at: int) -> int:
        self._since_mark()
        return at

    def on_memoize(self, at: int) -> int:
        count = self._repeated(at)
        self._take(0, weights.SLOT_SIZE * count)
        self._memo += [self._stack[-1]] * count
        return at - 1 + count

    def on_get(self, at: int) -> int:
        size = 1 if self._body[at - 1] == 104 else 4
        item = self._memo[int.from_bytes(self._body[at : at + size], "little")]
        if isinstance(item, weights.Node):
            item.is_read = True
        self._take(0, weights.SLOT_SIZE)
        self._stack.append(item)
        return at + size

    def on_tuple(self, at: int) -> int:
        count = self._body[at - 1] - 132
        items = self._since_mark() if count < 0 or count > 3 else [self._pop() for _ in range(count)][::-1]
        self._take(weights.OBJECT, weights.NODE + weights.POINTER * len(items))
        node = weights.Node(weights.TUPLE)
        self._grow(node, items)
        node.size = weights.POINTER + sum(map(weights.size_of, items))
        if len(items) < 3:
            node.first, node.second = (*items, None, None)[:2]
        if all(not isinstance(item, weights.Node) or item.hash is not None for item in items):
            node.hash = hash((*items,))
        self._stack.append(node)
        return at

    def on_frozenset(self, at: int) -> int:
        items = self._since_mark()
        node = weights.Node(weights.SETS)
        self._take(weights.OBJECT, weights.SET + weights.ENTRY * len(items))
        self._check_keys(node, items)
        self._grow(node, items)
        node.hash = hash(frozenset(map(hash, items)))
        self._stack.append(node)
        return at

    def on_append(self, at: int) -> int:
        items = self._since_mark() if self._body[at - 1] == 0x65 else [self._pop()]
        self._grow(self._top(), items)
        return at

    def on_set_item(self, at: int) -> int:
        items = self._since_mark() if self._body[at - 1] == 0x75 else [self._pop(), self._pop()][::-1]
        node = self._top()
        keys = items[::2]
        # The first key allocates space for eight.
        self._take(0, weights.ENTRY * (len(keys) + 1))
        self._check_keys(node, keys)
        self._grow(node, items)
        node.size += weights.ENTRY * len(keys)
        if b"int" in keys:
            node.first = items[2 * keys.index(b"int") + 1]
        return at

    def on_add_items(self, at: int) -> int:
        items = self._since_mark()
        node = self._top()
        self._take(0, weights.ENTRY * len(items))
        self._check_keys(node, items)
        self._grow(node, items)
        return at

    def on_name(self, at: int) -> int:
        name, module = self._pop(), self._pop()
        path = b".".join((module, name)).decode()
        self._take(weights.OBJECT)
        self._stack.append(weights.Node(weights.MAKER, weights.OBJECT, 0, hash=0, path=path))
        return at

    def on_make(self, at: int) -> int:
        kwargs = self._pop() if self._body[at - 1] == 0x92 else None
        args, maker = self._pop(), self._pop()
        # A ZoneInfo asks for an attribute of the constructor itself.
        is_maker = maker.kind == weights.MAKER or maker.path == "builtins.getattr"
        if not is_maker or args.kind != weights.TUPLE:
            raise TypeError
        path, size = maker.path, args.size + (0 if kwargs is None else weights.size_of(kwargs))
        if path in _CONTAINERS:
            self._take(weights.OBJECT + size, size + _CONTAINERS[path])
            made = weights.Node(weights.MADE, args.weight, args.depth, path=path, size=size)
        else:
            if size > _LONG_ARGUMENTS:
                weights.raise_over_budget(f"holds {path} of more than 4,300 digits")
            self._take(weights.OBJECT + (size // 4 if size > _SHORT_ARGUMENTS else 0), weights.NODE)
            if path in _NUMERIC:
                self._toil(size, "numbers of very many digits")
            made = weights.Node(weights.MADE, args.weight, path=path, size=size)
            made.hash = id(made) if path in _HASHED_BY_CHANCE else weights.hash_of(path, args.first, args.second)
        self._stack.append(made)
        return at

    def on_build(self, at: int) -> int:
        state = self._pop()
        node = self._top()
        self._take(weights.OBJECT)
        self._grow(node, [state])
        if node.path == "uuid.UUID" and isinstance(state, weights.Node) and isinstance(state.first, int):
            node.hash = hash(state.first)
        return at

    # -- sizes of containers --------------------------------------------------------------------------------------------------------------

    def _grow(self, node: weights.Node, items: list[Any]) -> None:
        inner = [item for item in items if isinstance(item, weights.Node)]
        node.size += weights.POINTER * len(items)
        node.weight += weights.POINTER * (len(items) - len(inner))
        if not inner:
            return
        node.weight += sum([item.weight for item in inner])
        if node.weight > _REPEATED * self._limit:
            weights.raise_over_budget("repeats its parts too often")
        depth = 1 + max(item.depth for item in inner)
        if depth > node.depth:
            if node.is_read:
                self._slack += depth - node.depth
            node.depth = depth
        if node.depth + self._slack > DEEPEST:
            weights.raise_over_budget(f"is nested more than {DEEPEST:,} deep")

    def _check_keys(self, node: weights.Node, keys: list[Any]) -> None:
        for key in keys:
            if isinstance(key, int):
                if -weights.WIDE < key < weights.WIDE:
                    continue
                self._wide += 1
                if self._wide > MOST_WIDE:
                    weights.raise_over_budget(f"has more than {MOST_WIDE:,} keys that are integers beyond 2**61")
            elif key is None or isinstance(key, bytes):
                continue
            self._count_alike(node, key)

    def _count_alike(self, node: weights.Node, key: Any) -> None:
        """Count the comparisons of a key with those that have the same hash."""
        if node.alike is None:
            node.alike = {}
        hashed = hash(key)
        before = node.alike.get(hashed, 0)
        node.alike[hashed] = before + 1
        # A tuple is traversed each time it is hashed or compared.
        is_tuple = isinstance(key, weights.Node) and key.kind == weights.TUPLE
        self._toil(key.weight * (before + 1) if is_tuple else _COMPARED * before, "keys that have the same hash or are long")


_NO_ITEMS = weights.Node(weights.TUPLE, weights.POINTER, 1, hash=hash(()))
_EMPTY = {0x5D: (weights.LIST, weights.NODE), 0x7D: (weights.DICT, weights.NODE), 0x8F: (weights.SETS, weights.SET)}
_TEXT_COUNTS = {0x8C: 1, 0x43: 1, 0x58: 4, 0x42: 4, 0x8D: 8, 0x8E: 8}
_ROW_OF = {code: re.compile(re.escape(bytes((code,))) + b"++") for code in b"N\x88\x89(\x94]}\x8f"}
_ROWS = {
    0x4B: (re.compile(rb"(?:K.)++", re.DOTALL), 2, "<xB", 0),
    0x4D: (re.compile(rb"(?:M..)++", re.DOTALL), 3, "<xH", weights.INT),
    0x4A: (re.compile(rb"(?:J.{4})++", re.DOTALL), 5, "<xi", weights.INT),
}
_OPCODES: dict[int, Callable[[_Count, int], int]] = {
    0x80: _Count.on_protocol,
    0x95: _Count.on_frame,
    **dict.fromkeys(b"N\x88\x89", _Count.on_constant),
    **dict.fromkeys(_ROWS, _Count.on_integers),
    0x47: _Count.on_float,
    **dict.fromkeys(b"\x8a\x8b", _Count.on_integer),
    **dict.fromkeys(_TEXT_COUNTS, _Count.on_text),
    0x96: _Count.on_bytearray,
    **dict.fromkeys(_EMPTY, _Count.on_empty),
    0x29: _Count.on_empty_tuple,
    0x28: _Count.on_mark,
    0x30: _Count.on_pop,
    0x31: _Count.on_pop_mark,
    0x94: _Count.on_memoize,
    **dict.fromkeys(b"hj", _Count.on_get),
    **dict.fromkeys(b"t\x85\x86\x87", _Count.on_tuple),
    0x91: _Count.on_frozenset,
    **dict.fromkeys(b"ae", _Count.on_append),
    **dict.fromkeys(b"su", _Count.on_set_item),
    0x90: _Count.on_add_items,
    0x93: _Count.on_name,
    **dict.fromkeys(b"R\x81\x92", _Count.on_make),
    0x62: _Count.on_build,
}
