"""The application ``huey.contrib.djhuey``: ``huey.djhuey`` under its 3.x name."""

from __future__ import annotations

import os

from huey.djhuey.apps import HueyConfig


class ContribHueyConfig(HueyConfig):
    # There are two AppConfig classes in this module.
    default = True
    name = "huey.contrib.djhuey"
    label = "huey_contrib_djhuey"
    # It has the commands and templates of huey.djhuey.
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "djhuey")
