"""A module of huey 3.x that does not exist here: importing it says what to use instead."""

from huey.runtime.missing_names import not_here

not_here(__name__)
