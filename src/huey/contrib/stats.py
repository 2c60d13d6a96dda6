"""Of huey 3.x, and not here: an import says what there is instead."""

from huey.coming import not_here

not_here(__name__)
