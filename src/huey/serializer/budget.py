"""What reading a message takes, counted before anything of it is built.

A few bytes can stand for gigabytes (a list that is copied ten thousand times), for hours (keys that hash alike), or for a crash (what is
nested a hundred thousand deep). So the opcodes of a pickle are followed with weights in place of values: each object, each item, each
repetition by the memo adds what it takes. Time is never asked: a message is refused, or read, on every machine alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import error as StructError
from struct import iter_unpack, unpack_from
from typing import Any, NoReturn

from huey.exceptions import DecodeError

LEAST = 64_000_000
"""Bytes that each message may take."""
TIMES = 16
"""A long one may take so many times its own bytes."""
DEEPEST = 1000
"""Levels of containers in each other."""
WIDE = 1 << 61
"""Python hashes smaller integers to themselves; larger ones can be chosen to hash alike."""
MOST_WIDE = 1000
"""Keys that are such integers."""

_POINTER, _INT, _OBJECT, _SET, _ENTRY = 16, 40, 128, 256, 100
"""Bytes, rounded up: a place in a container, a number, an object, a set or a frozenset, a key with its value in a dict."""
_COMPARED = 64
"""Taken for each comparison of two keys that hash alike."""
_SHORT_TEXT = 64


def budget(size: int) -> int:
    """Bytes that a message of *size* stored bytes may take when it is read."""
    return max(LEAST, TIMES * size)


def check_pickle(body: bytes, limit: int) -> None:
    """DecodeError: reading *body* takes more than *limit* bytes, or it has opcodes that our own pickler does not write."""
    if not is_harmless(body):
        _Count(body, limit).run()


def is_harmless(body: bytes) -> bool:
    """A pickle that repeats nothing, makes nothing but plain containers, and is too short to take much. Fast."""
    return len(body) <= _SMALL and _HARMLESS.fullmatch(body) is not None


def refuse(why: str) -> NoReturn:
    """DecodeError: *why*, and the way out."""
    raise DecodeError(f"{why}; store it elsewhere and pass its name or key, or sign the messages with secret=")


# -- pickles ------------------------------------------------------------------------------------------------------------------------------

_SMALL = 1000
"""A pickle of so many bytes that repeats nothing, and makes nothing but plain containers, cannot take much."""
_HARMLESS = re.compile(
    rb"(?:[N\x88\x89)\x85-\x87t(\]ae}su\x8f-\x91\x9401]++|K.|M..|J.{4}|[G\x95].{8}|\x80\x05|\x8c(?:"
    + b"|".join(re.escape(bytes((length,))) + b".{%d}" % length for length in range(_SHORT_TEXT + 1))
    + rb"))*+\.",
    re.DOTALL,
)

_LIST, _DICT, _SETS, _TUPLE, _MAKER, _MADE, _TEXT = "list", "dict", "set", "tuple", "maker", "made", "text"


class _Node:
    """What stands for an object while a pickle is followed. Numbers, None and short texts stand for themselves."""

    __slots__ = ("alike", "depth", "hash", "is_read", "kind", "path", "weight")

    def __init__(self, kind: str, weight: int, depth: int = 1, hash: int | None = None, path: str = "") -> None:
        self.kind = kind
        self.weight = weight
        """Of it with all that is in it, each time that it is in it."""
        self.depth = depth
        self.hash = hash
        self.path = path
        self.is_read = False
        """It was read from the memo, and may stand in several places."""
        self.alike: dict[int, int] | None = None
        """How many of its keys have a hash, of those whose hash others can choose."""

    def __hash__(self) -> int:
        if self.hash is None:
            refuse(f"has a {self.kind} as a key")
        return self.hash


_GROWING = (_LIST, _DICT, _SETS, _MADE)
_NUMERIC = ("decimal.Decimal", "fractions.Fraction")
_CONTAINERS = ("collections.OrderedDict", "collections.deque")
_LONG_ARGUMENTS = 3 * 4 * 4300
"""What the arguments of a maker weigh at most; each is looked at once more when it is made."""
_HASHED_BY_CHANCE = ("datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone", "zoneinfo.ZoneInfo")


def _weight(item: Any) -> int:
    """What *item* takes where it stands once more."""
    if isinstance(item, _Node):
        return item.weight
    if isinstance(item, bytes):
        return _POINTER + 4 * len(item)
    return _POINTER + item.bit_length() // 8 if isinstance(item, int) else _POINTER


class _Count:
    """Follows one pickle."""

    def __init__(self, body: bytes, limit: int) -> None:
        self._body = body
        self._limit = limit
        self._taken = len(body)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._wide = 0
        self._frame_end = 0
        self._slack = 0
        """Levels that came into containers after these were put into others."""

    def run(self) -> None:
        body, at, last = self._body, 0, len(self._body) - 1
        try:
            while body[at] != 46:  # The full stop.
                at = _OPCODES[body[at]](self, at + 1)
        except DecodeError:
            raise
        except (IndexError, KeyError, TypeError, AttributeError, ValueError, StructError):  # What an unpickler would stumble over as well.
            at = -1
        if at != last:
            raise DecodeError("not a pickle that huey writes, or damaged")

    def _take(self, weight: int) -> None:
        self._taken += weight
        if self._taken > self._limit:
            refuse(f"takes more than {self._limit:,} bytes when it is read")

    # -- opcodes: each is given where its argument begins, and says where the next is ----------------------------------------------------

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
        self._take(_POINTER * count)
        self._stack += [{78: None, 136: True, 137: False}[self._body[at - 1]]] * count
        return at - 1 + count

    def _repeated(self, at: int) -> int:
        """How often the opcode before *at* stands there in a row."""
        if self._body[at] != self._body[at - 1]:
            return 1
        match = _ROW_OF[self._body[at - 1]].match(self._body, at)
        return 1 if match is None else 1 + match.end() - at

    def on_integers(self, at: int) -> int:
        """A whole row of them at once."""
        pattern, size, form, weight = _ROWS[self._body[at - 1]]
        match = pattern.match(self._body, at - 1)
        if match is None:
            raise IndexError
        row = match[0]
        self._take(weight * (len(row) // size))
        self._stack += [value for (value,) in iter_unpack(form, row)]
        return match.end()

    def on_float(self, at: int) -> int:
        self._take(_INT)
        self._stack += unpack_from(">d", self._body, at)
        return at + 8

    def on_integer(self, at: int) -> int:
        start, end = self._counted(at, {138: 1, 139: 4}[self._body[at - 1]])
        self._take(_INT + 2 * (end - start))
        self._stack.append(int.from_bytes(self._body[start:end], "little", signed=True))
        return end

    def on_text(self, at: int) -> int:
        start, end = self._counted(at, _TEXT_COUNTS[self._body[at - 1]])
        self._take(_OBJECT // 2)
        if end - start <= _SHORT_TEXT:
            self._stack.append(self._body[start:end])
        else:
            node = _Node(_TEXT, _POINTER + 4 * (end - start), 0)
            node.hash = id(node)
            self._stack.append(node)
        return end

    def on_bytearray(self, at: int) -> int:
        start, end = self._counted(at, 8)
        self._push(_Node(_LIST, _OBJECT + 4 * (end - start)))
        return end

    def _counted(self, at: int, size: int) -> tuple[int, int]:
        start = at + size
        end = start + int.from_bytes(self._body[at:start], "little")
        if end >= len(self._body) or start < self._frame_end < end:
            raise IndexError
        return start, end

    def on_empty(self, at: int) -> int:
        kind, weight = _EMPTY[self._body[at - 1]]
        count = self._repeated(at)
        self._take(weight * count)
        self._stack += [_Node(kind, weight) for _ in range(count)]
        return at - 1 + count

    def on_empty_tuple(self, at: int) -> int:
        self._take(_POINTER)
        self._stack.append(_NO_ITEMS)
        return at

    def _push(self, node: _Node) -> None:
        self._take(node.weight)
        self._stack.append(node)

    def on_mark(self, at: int) -> int:
        count = self._repeated(at)
        self._take(_POINTER * count)
        self._marks += [len(self._stack)] * count
        return at - 1 + count

    def _since_mark(self) -> list[Any]:
        place = self._marks.pop()
        items = self._stack[place:]
        del self._stack[place:]
        return items

    def _pop(self) -> Any:
        if self._marks and len(self._stack) <= self._marks[-1]:
            raise IndexError
        return self._stack.pop()

    def _top(self) -> _Node:
        node = self._stack[-1]
        if not isinstance(node, _Node) or node.kind not in _GROWING:
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
        self._take(_POINTER * count)
        self._memo += [self._stack[-1]] * count
        return at - 1 + count

    def on_get(self, at: int) -> int:
        size = 1 if self._body[at - 1] == 104 else 4
        item = self._memo[int.from_bytes(self._body[at : at + size], "little")]
        if isinstance(item, _Node):
            item.is_read = True
        self._take(_weight(item))
        self._stack.append(item)
        return at + size

    def on_tuple(self, at: int) -> int:
        count = self._body[at - 1] - 132
        items = self._since_mark() if count < 0 or count > 3 else [self._pop() for _ in range(count)][::-1]
        self._take(_OBJECT + _POINTER * len(items))
        node = _Node(_TUPLE, _OBJECT)
        self._grow(node, items)
        if all(not isinstance(item, _Node) or item.hash is not None for item in items):
            node.hash = hash((*items,))
        self._stack.append(node)
        return at

    def on_frozenset(self, at: int) -> int:
        items = self._since_mark()
        node = _Node(_SETS, _SET)
        self._take(_SET)
        self._check_keys(node, items)
        self._grow(node, items)
        node.hash = hash(frozenset(map(hash, items)))
        self._stack.append(node)
        return at

    def on_append(self, at: int) -> int:
        item = self._pop()
        self._grow(self._top(), [item])
        return at

    def on_appends(self, at: int) -> int:
        items = self._since_mark()
        self._grow(self._top(), items)
        return at

    def on_set_item(self, at: int) -> int:
        value = self._pop()
        return self._set(at, [self._pop(), value])

    def on_set_items(self, at: int) -> int:
        return self._set(at, self._since_mark())

    def _set(self, at: int, items: list[Any]) -> int:
        node = self._top()
        self._take(_ENTRY * (len(items) // 2))
        self._check_keys(node, items[::2])
        self._grow(node, items)
        return at

    def on_add_items(self, at: int) -> int:
        items = self._since_mark()
        node = self._top()
        self._take(_ENTRY * len(items))
        self._check_keys(node, items)
        self._grow(node, items)
        return at

    def on_name(self, at: int) -> int:
        name, module = self._pop(), self._pop()
        path = b".".join((module, name)).decode()
        self._push(_Node(_MAKER, _OBJECT, 0, hash=0, path=path))
        return at

    def on_make(self, at: int) -> int:
        kwargs = self._pop() if self._body[at - 1] == 0x92 else None
        args, maker = self._pop(), self._pop()
        if kwargs is not None:
            self._take(_weight(kwargs))
        # Of a ZoneInfo the maker itself is asked for an attribute.
        is_maker = maker.kind == _MAKER or maker.path == "builtins.getattr"
        if not is_maker or args.kind != _TUPLE:
            raise TypeError
        if args.weight > _LONG_ARGUMENTS and maker.path not in _CONTAINERS:
            refuse(f"holds {maker.path} of more than 4,300 digits")
        times = 16 if maker.path in _NUMERIC else 8 if maker.path in _CONTAINERS else 1
        self._take(times * args.weight)
        made = _Node(_MADE, args.weight, args.depth if maker.path in _CONTAINERS else 1, path=maker.path)
        if maker.path not in _CONTAINERS:
            made.hash = id(made) if maker.path in _HASHED_BY_CHANCE else 0
        self._push(made)
        return at

    def on_build(self, at: int) -> int:
        state = self._pop()
        self._take(_OBJECT)
        self._grow(self._top(), [state])
        return at

    # -- what containers come to ---------------------------------------------------------------------------------------------------------

    def _grow(self, node: _Node, items: list[Any]) -> None:
        inner = [item for item in items if isinstance(item, _Node)]
        node.weight += _POINTER * (len(items) - len(inner)) + sum(item.weight for item in inner)
        if not inner:
            return
        depth = 1 + max(item.depth for item in inner)
        if depth > node.depth:
            if node.is_read:
                self._slack += depth - node.depth
            node.depth = depth
        if node.depth + self._slack > DEEPEST:
            refuse(f"is nested more than {DEEPEST:,} deep")

    def _check_keys(self, node: _Node, keys: list[Any]) -> None:
        for key in keys:
            if isinstance(key, int):
                if -WIDE < key < WIDE:
                    continue
                self._wide += 1
                if self._wide > MOST_WIDE:
                    refuse(f"has more than {MOST_WIDE:,} keys that are integers beyond 2**61")
            elif key is None or isinstance(key, bytes):
                continue
            self._count_alike(node, key)

    def _count_alike(self, node: _Node, key: Any) -> None:
        """A key is compared with those that hash alike."""
        if node.alike is None:
            node.alike = {}
        hashed = hash(key)
        before = node.alike.get(hashed, 0)
        node.alike[hashed] = before + 1
        self._take(_ENTRY + before * (key.weight if isinstance(key, _Node) and key.kind == _TUPLE else _COMPARED))


_NO_ITEMS = _Node(_TUPLE, _POINTER, 1, hash=hash(()))
_EMPTY = {0x5D: (_LIST, _OBJECT), 0x7D: (_DICT, _OBJECT), 0x8F: (_SETS, _SET)}
_TEXT_COUNTS = {0x8C: 1, 0x43: 1, 0x58: 4, 0x42: 4, 0x8D: 8, 0x8E: 8}
_ROW_OF = {code: re.compile(re.escape(bytes((code,))) + b"++") for code in b"N\x88\x89(\x94]}\x8f"}
_ROWS = {
    0x4B: (re.compile(rb"(?:K.)++", re.DOTALL), 2, "<xB", _POINTER),
    0x4D: (re.compile(rb"(?:M..)++", re.DOTALL), 3, "<xH", _INT),
    0x4A: (re.compile(rb"(?:J.{4})++", re.DOTALL), 5, "<xi", _INT),
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
    0x61: _Count.on_append,
    0x65: _Count.on_appends,
    0x73: _Count.on_set_item,
    0x75: _Count.on_set_items,
    0x90: _Count.on_add_items,
    0x93: _Count.on_name,
    **dict.fromkeys(b"R\x81\x92", _Count.on_make),
    0x62: _Count.on_build,
}
