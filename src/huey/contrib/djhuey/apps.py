"""The application ``huey.contrib.djhuey``: ``huey.djhuey`` under the name of 3.x."""

from __future__ import annotations

import os

from huey.djhuey.apps import HueyConfig


class ContribHueyConfig(HueyConfig):
    # Of the two classes that stand in this module.
    default = True
    name = "huey.contrib.djhuey"
    label = "huey_contrib_djhuey"
    # Its commands and templates are those of the other.
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "djhuey")
