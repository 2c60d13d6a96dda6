"""Django in this process, with an admin, a database of its own, and the queue in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.djangos import set_up

set_up()


@pytest.fixture(scope="session")
def database() -> None:
    """The tables of Django's own apps."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Each test has an instance of its own, and leaves no connection."""
    from django.core.signals import setting_changed
    from django.db import connections

    setting_changed.send(sender=None, setting="HUEY", value=None, enter=True)
    yield
    connections.close_all()
