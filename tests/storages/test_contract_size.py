"""The contract stays small: each member has to be written again by every storage."""

from __future__ import annotations

from huey.storage.admin import Administering
from huey.storage.base import Storage

MOST = 44


def members() -> set[str]:
    """Public members of a storage, short forms made of them and names of huey 3.x left out."""
    declared = {name for each in Storage.__mro__ for name in (*vars(each), *getattr(each, "__annotations__", {}))}
    return {name for name in declared if not name.startswith("_")} - {*vars(Administering)}


def test_the_contract_has_few_members() -> None:
    assert len(members()) <= MOST, sorted(members())
