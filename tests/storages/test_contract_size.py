"""The contract stays small: each verb has to be written again by every storage."""

from __future__ import annotations

from huey.storage.admin import Administering
from huey.storage.base import Storage

MOST_VERBS = 46
ATTRIBUTES = {"name", "features", "offset", "result_ttl"}


def members() -> set[str]:
    """Public members of a storage; short forms made of them and names of huey 3.x are left out."""
    declared = {name for each in Storage.__mro__ for name in (*vars(each), *getattr(each, "__annotations__", {}))}
    return {name for name in declared if not name.startswith("_")} - {*vars(Administering)}


def test_the_contract_has_few_verbs_and_attributes() -> None:
    verbs = {name for name in members() if callable(getattr(Storage, name, None)) or isinstance(getattr(Storage, name, None), property)}

    assert len(verbs) <= MOST_VERBS, sorted(verbs)
    assert members() - verbs == ATTRIBUTES
