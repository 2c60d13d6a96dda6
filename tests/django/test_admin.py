"""The page in Django's admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import reverse

from huey import Huey
from huey.djhuey.settings import current
from tests.support.helpers import running, wait_until

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def huey() -> Huey:
    return current().huey


@pytest.fixture
def failed(huey: Huey) -> str:
    """A task that failed."""

    @huey.task(name="shop.<b>fails</b>")
    def fails(word: str) -> None:
        raise ValueError(f"<script>{word}</script>")

    result = fails("<i>arg</i>")
    with running(huey):
        wait_until(result.is_ready)
    return result.id


@pytest.fixture
def client_of() -> Iterator[Any]:
    """Logs in a member of the staff with these permissions; CSRF is enforced."""
    made: list[User] = []

    def log_in(*permissions: str) -> Client:
        user = User.objects.create_user(f"staff{len(made)}", password="x", is_staff=True)
        made.append(user)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="djhuey", codename__in=permissions))
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    yield log_in
    for user in made:
        user.delete()


def url() -> str:
    return reverse("admin:djhuey_queue_changelist")


def post(client: Client, **data: Any) -> Any:
    """As the page's form does, with the token that the page has."""
    page = client.get(url()).content.decode()
    token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    return client.post(url(), {**data, "csrfmiddlewaretoken": token})


def test_the_page_shows_counts_and_what_failed_and_escapes_it(huey: Huey, failed: str, client_of: Any) -> None:
    huey.task(name="shop.waits")(lambda: None).schedule(delay=3600)

    page = client_of("view_queue").get(url()).content.decode()

    assert "shop.&lt;b&gt;fails&lt;/b&gt;" in page
    assert "&lt;i&gt;arg&lt;/i&gt;" in page
    assert "&lt;script&gt;" in page
    assert "<script>&" not in page
    assert "<i>" not in page
    assert "shop.waits" in page
    assert "no worker is running" in page
    assert "<td>1</td>" in page


def test_who_may_only_look_finds_no_buttons_and_cannot_act(huey: Huey, failed: str, client_of: Any) -> None:
    client = client_of("view_queue")

    assert "<button" not in client.get(url()).content.decode().partition('id="content-main"')[2]
    assert post(client, action="retry", id=[failed]).status_code == 403
    assert huey.inspector.counts().failed == 1


def test_who_has_no_permission_sees_nothing(client_of: Any) -> None:
    client = client_of()

    assert client.get(url()).status_code == 403
    assert "/djhuey/" not in client.get(reverse("admin:index")).content.decode()


def test_a_stranger_is_sent_to_the_login() -> None:
    response = Client().get(url())

    assert response.status_code == 302
    assert "login" in response["Location"]


def test_a_failed_task_is_put_back(huey: Huey, failed: str, client_of: Any) -> None:
    response = post(client_of("view_queue", "change_queue"), action="retry", id=[failed])

    assert response.status_code == 302
    assert (huey.inspector.counts().ready, huey.inspector.counts().failed) == (1, 0)


def test_a_failed_task_is_removed(huey: Huey, failed: str, client_of: Any) -> None:
    post(client_of("view_queue", "change_queue"), action="discard", id=[failed])

    assert huey.inspector.task(failed) is None


def test_a_waiting_task_is_revoked(huey: Huey, client_of: Any) -> None:
    result = huey.task(name="shop.waits")(lambda: None)()

    post(client_of("view_queue", "change_queue"), action="revoke", id=[result.id])

    assert result.is_revoked()


def task_url(**query: str) -> str:
    return f"{reverse('admin:djhuey_queue_task')}?{urlencode(query)}"


def test_waiting_tasks_are_counted_and_listed(huey: Huey, client_of: Any) -> None:
    step = huey.task(name="shop.step")(lambda *args: None)
    huey.enqueue(step.s().then(step, id="the <second>"))

    page = client_of("view_queue").get(url()).content.decode()

    assert "Waiting for the tasks before them" in page
    assert '<th scope="col">waiting</th>' in page
    assert task_url(id="the <second>").replace("+", "%20") in page


def test_the_page_of_a_task_links_parents_and_children(huey: Huey, client_of: Any) -> None:
    first, last = (huey.task(name=f"shop.{name}")(lambda *args: None) for name in ("first", "last"))
    mail = huey.task(name="shop.mail", queue="mail & co")(lambda *args: None)
    huey.enqueue(first.s(id="one").then(mail, "<b>", id="two").then(last, id="three"))
    client = client_of("view_queue")

    page = client.get(task_url(queue="mail & co", id="two")).content.decode()

    assert "shop.mail" in page
    assert "&lt;b&gt;" in page
    assert page.index("Waits for") < page.index("shop.first") < page.index("Is waited for by") < page.index("shop.last")
    assert f"queue={huey.name}&amp;id=one" in page
    page = client.get(task_url(id="one")).content.decode()
    assert "queue=mail%20%26%20co&amp;id=two" in page
    assert "Waits for" not in page


def test_the_page_of_a_cancelled_stage_links_the_failure(huey: Huey, client_of: Any) -> None:
    fails = huey.task(name="shop.fails")(lambda *args: 1 // 0)
    results = list(huey.enqueue(fails.s(id="one").then(fails).then(fails, id="three")))
    with running(huey):
        wait_until(lambda: results[2].is_ready())

    page = client_of("view_queue").get(task_url(id="three")).content.decode()

    assert f'(parent failed: <a href="?queue={huey.name}&amp;id=one">one</a>)' in page


def test_a_task_that_is_gone_has_no_page(huey: Huey, client_of: Any) -> None:
    client = client_of("view_queue")

    assert [client.get(task_url(**query)).status_code for query in ({"id": "x"}, {"id": "x", "queue": "none"}, {})] == [404] * 3
    assert "none" not in huey.inspector.queues()
    assert client_of().get(task_url(id="x")).status_code == 403
    assert Client().get(task_url(id="x")).status_code == 302


@pytest.mark.parametrize(
    ("data", "said"), [({"action": "explode", "id": ["1"]}, "Unknown action"), ({"action": "retry"}, "No task was selected")]
)
def test_a_form_that_makes_no_sense_changes_nothing(huey: Huey, failed: str, client_of: Any, data: dict[str, Any], said: str) -> None:
    client = client_of("view_queue", "change_queue")

    post(client, **data)

    assert said in client.get(url()).content.decode()
    assert huey.inspector.counts().failed == 1


def test_a_post_without_the_token_is_refused(huey: Huey, failed: str, client_of: Any) -> None:
    response = client_of("view_queue", "change_queue").post(url(), {"action": "discard", "id": [failed]})

    assert response.status_code == 403
    assert huey.inspector.counts().failed == 1


def test_single_queues_lead_back_to_the_page(client_of: Any) -> None:
    client = client_of("view_queue", "change_queue")

    assert client.get(url() + "1/change/").status_code == 302
    assert client.get(url() + "add/").status_code == 403


def test_trouble_is_shown_on_the_page(client_of: Any) -> None:
    client = client_of("view_queue")

    with override_settings(HUEY={"huey_class": "huey.SqliteHuey", "filename": "/no/such/folder/q.db"}):
        page = client.get(url()).content.decode()

    assert "/no/such/folder" in page
    assert "errornote" in page


def test_the_model_of_the_page_has_no_table(database: None) -> None:
    from django.apps import apps
    from django.core.management import call_command
    from django.db import connection

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    made = connection.introspection.table_names()
    assert "auth_user" in made
    # A queue in the same file, of another test, has tables of its own.
    assert [
        model for app in apps.get_app_configs() if "huey" in app.name for model in app.get_models() if model._meta.db_table in made
    ] == []
