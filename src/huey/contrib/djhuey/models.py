"""The model of ``huey.djhuey``."""

from huey.djhuey.models import Queue as Queue
