"""What is said of options that no storage has."""

from __future__ import annotations

import huey.storage
from huey.runtime.hinting import keywords_of, unknown_keyword
from huey.runtime.suggestions import did_you_mean


def why_not(made: object, name: str, error: TypeError) -> str:
    """Why the storage of *made*, an instance of a Huey with the queue *name*, cannot be made: *error* says it, here with the option that
    was meant."""
    who, word = f"{type(made).__name__}({name!r})", unknown_keyword(error)
    if word is None:
        return f"{who}: {error}; known options stand in its docstring"
    kind = getattr(huey.storage, str(error).partition(".")[0], None)
    classes = (*type(made).__mro__, *getattr(kind, "__mro__", ()))
    indexes = [getattr(kind, "from_options", None), *(vars(it).get("__init__") for it in classes)]
    known = {option for index in indexes for option in keywords_of(index)}
    return f"{who}: unknown option {word!r}" + (did_you_mean(word, known - {"self", "cls"}) or "; known options stand in its docstring")
