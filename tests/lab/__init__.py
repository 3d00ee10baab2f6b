"""Hosts on one machine, each with its own network, name, processes, /run, disk and Docker daemon; see README.md."""

from __future__ import annotations

from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.namespaces import LabError

__all__ = ["Host", "Lab", "LabError"]
