"""Of huey 3.x, and not here: an import says what there is instead."""

from huey.runtime.missing_names import not_here

not_here(__name__)
