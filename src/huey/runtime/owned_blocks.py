"""Blocks that belong to the code that opened them: a batch, a transaction.

The owner is one thread and one asyncio task, with their context. Code that inherits the context (an asyncio task created inside, a thread
of ``to_thread``, a copied context) sees the block, but does not own it. A block is removed by identity: wherever that happens, such as in
the garbage collector, it is gone everywhere from then on."""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar, Token
from threading import get_ident
from typing import Any, TypeVar

from huey.runtime.method_masking import Masked

B = TypeVar("B", bound="Block")


class Block(Masked):
    """A ``with`` block. *of*: the object that it is about; blocks of different objects do not affect each other."""

    opened = 0
    """Number of open blocks in this process: tasks enqueued meanwhile may be stored later, or not at all."""

    def __init__(self, of: object) -> None:
        self.of = of
        self.is_open = False
        self.outer: Block | None = None
        self._owner: tuple[Any, ...] = ()
        self._token: Token[Block | None] | None = None

    def __enter__(self) -> None:
        self.outer = _still_open(_innermost.get())
        self._owner = _here()
        self.is_open = True
        Block.opened += 1
        self._token = _innermost.set(self)

    def __exit__(self, *_: object) -> None:
        if self.is_open:
            Block.opened -= 1
        self.is_open = False
        now = _innermost.get()
        if now is not _still_open(now):
            _innermost.set(_still_open(now))

    @property
    def is_mine(self) -> bool:
        """Whether the caller is its owner."""
        if self._token is None or self._owner != _here():
            return False
        now = _innermost.get()
        try:
            # A token can only be used in the context that it came from, not in a copy; nothing else distinguishes the two.
            _innermost.reset(self._token)
        except (ValueError, RuntimeError):
            # Another context; or a call that interrupted this very check.
            return False
        self._token = _innermost.set(self)
        if now is not self:
            _innermost.set(now)
        return True


_innermost: ContextVar[Block | None] = ContextVar("huey_blocks", default=None)


def find(kind: type[B], of: object) -> B | None:
    """Return the innermost open block of class *kind* about *of* that the caller is in, as its owner or by inheritance."""
    block = _innermost.get()
    while block is not None:
        if block.is_open and block.of is of and isinstance(block, kind):
            return block
        block = block.outer
    return None


def _still_open(block: Block | None) -> Block | None:
    while block is not None and not block.is_open:
        block = block.outer
    return block


def _here() -> tuple[Any, ...]:
    # A forked child did not open it either.
    return os.getpid(), get_ident(), asyncio_task()


def asyncio_task() -> object:
    """Return the asyncio task in which the caller is, or None."""
    current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
    if current_task is None:
        return None
    try:
        return current_task()
    except RuntimeError:
        # No loop runs in this thread.
        return None
