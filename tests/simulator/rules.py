"""How a history says that a property does not hold."""

from __future__ import annotations


class Violation(BaseException):
    """A property does not hold. Not an Exception: what is tested may catch those."""

    def __init__(self, rule: str, fact: str) -> None:
        super().__init__(f"{rule}: {fact}")
        self.rule = rule


def demand(truth: bool, rule: str, fact: str) -> None:
    if not truth:
        raise Violation(rule, fact)
