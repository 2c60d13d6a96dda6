"""Pages in Django's admin: queued, running and failed tasks, which permitted users may retry, revoke or remove; and one for each task.

``view_queue`` permits viewing, ``change_queue`` permits changes. Every change is a POST with Django's CSRF token. Arguments are never
unpickled into classes; templates escape everything.
"""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from huey.djhuey.models import Queue
from huey.djhuey.settings import WrongSetting, current
from huey.exceptions import StorageError
from huey.inspector import Inspector
from huey.runtime.display import counted

log = logging.getLogger("huey.djhuey")

SHOWN = 100
"""Most tasks of one kind on the page."""
KINDS = (
    ("failed", "Failed", ("retry", "discard")),
    ("running", "Running", ("revoke",)),
    ("ready", "Ready", ("revoke",)),
    ("blocked", "Blocked by a limit, or until a worker knows their function", ("revoke",)),
    ("waiting", "Waiting for the tasks before them", ("revoke",)),
    ("scheduled", "Scheduled", ("revoke",)),
    ("cancelled", "Cancelled", ("retry", "discard")),
)
"""States, their headings and actions; states that need attention come first."""
LABELS = {"retry": "Retry", "revoke": "Revoke", "discard": "Remove"}


@admin.register(Queue)
class QueueAdmin(admin.ModelAdmin):
    """The admin page. Users cannot add or edit rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [path("task/", self.admin_site.admin_view(self.task_view), name="djhuey_queue_task"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            huey = current().huey
            if request.method == "POST":
                return self._act(request, huey.inspector)
            shown = _shown(huey.inspector)
        except (WrongSetting, StorageError) as error:
            shown = {"problem": str(error)}
        may_act = self.has_change_permission(request)
        return self._page(request, "queue", {"title": "Huey", "may_act": may_act, **shown, **(extra_context or {})})

    def task_view(self, request: HttpRequest) -> HttpResponse:
        """Show the task that the query names: its ``id``, and the ``queue`` if that is another one of the store."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            shown = _task(request.GET.get("queue", ""), request.GET.get("id", ""))
        except (WrongSetting, StorageError) as error:
            shown = {"problem": str(error)}
        return self._page(request, "task", {"title": "Task", **shown})

    def _page(self, request: HttpRequest, name: str, shown: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.model._meta, **shown}
        return TemplateResponse(request, f"huey/admin/{name}.html", context)

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Redirect to the page: there are no pages of single rows."""
        return HttpResponseRedirect("../..")

    def _act(self, request: HttpRequest, inspector: Inspector) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        action, ids = request.POST.get("action", ""), request.POST.getlist("id")[:SHOWN]
        if action not in LABELS:
            self.message_user(request, f"Unknown action {action!r}.", messages.ERROR)
        elif not ids:
            self.message_user(request, "No task was selected.", messages.WARNING)
        else:
            done = _done(inspector, action, ids)
            log.info("%s by %s: %s", action, request.user, ", ".join(done) or "nothing")
            self.message_user(request, f"{LABELS[action]}: {len(done)} of {counted(len(ids), 'task')}.")
        return HttpResponseRedirect(request.path)


def _done(inspector: Inspector, action: str, ids: list[str]) -> list[str]:
    if action == "retry":
        return inspector.retry(*ids)
    if action == "discard":
        return inspector.discard(*ids)
    inspector.cancel(*ids)
    return ids


def _shown(inspector: Inspector) -> dict[str, Any]:
    sections = []
    for state, heading, actions in KINDS:
        tasks = inspector.tasks(state, limit=SHOWN)
        buttons = [{"name": action, "label": LABELS[action]} for action in actions]
        sections.append({"state": state, "heading": heading, "tasks": tasks, "actions": buttons})
    return {
        "queue": current().huey.name,
        "counts": inspector.counts()._asdict(),
        "workers": inspector.workers(),
        "is_paused": inspector.is_paused(),
        "sections": sections,
        "most": SHOWN,
    }


def _task(queue: str, id: str) -> dict[str, Any]:
    huey = current().huey
    if queue not in ("", huey.name):
        if queue not in huey.inspector.queues():
            raise Http404(f"no queue {queue!r}")
        huey = huey.on(queue)
    task = huey.inspector.task(id)
    if task is None:
        raise Http404(f"queue {huey.name!r} does not hold the task {id!r} any more")
    relatives = {"Waits for": huey.inspector.parents(id, SHOWN), "Is waited for by": huey.inspector.children(id, SHOWN)}
    return {"queue": huey.name, "task": task, "relatives": relatives, "most": SHOWN}
