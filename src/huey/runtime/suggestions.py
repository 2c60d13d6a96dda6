"""Suggests what a mistyped word was meant to be."""

from __future__ import annotations

from collections.abc import Iterable

_ELSEWHERE = {
    "apply_at": "eta", "at": "eta", "run_at": "eta",
    "countdown": "delay", "defer": "delay", "in_": "delay", "wait": "delay",
    "default_retry_delay": "retry_delay", "interval": "retry_delay",
    "job_id": "id", "key": "id", "task_id": "id",
    "max_retries": "retries", "retry": "retries", "attempts": "retries",
    "soft_time_limit": "timeout", "time_limit": "timeout", "job_timeout": "timeout",
    "ttl": "expires",
}  # fmt: skip
"""Words of other task queues for options of a call."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ``; did you mean 'delay'?`` if one of *words* is near *word* or means the same in other task queues; else an empty text."""
    known = sorted(words)
    meant = _ELSEWHERE.get(word)
    if meant not in known:
        from difflib import get_close_matches

        meant = next(iter(get_close_matches(word, known, 1, 0.7)), None)
    return f"; did you mean {meant!r}?" if meant is not None and meant != word else ""
