"""The promises are tested on what users have: an instance, a consumer in this process, or the consumer command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.helpers import leaving_no_thread


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> Iterator[None]:
    with leaving_no_thread():
        yield
