"""Fixtures of the whole suite: imported by two folders, those of a session would start twice."""

from tests.fixtures.act import act, action_copy
from tests.fixtures.docker import base_image, docker_engine, registry
from tests.fixtures.github import github, node_modules
from tests.fixtures.lab import bare_lab, bare_lab_session, lab, lab_session

__all__ = [
    "act",
    "action_copy",
    "bare_lab",
    "bare_lab_session",
    "base_image",
    "docker_engine",
    "github",
    "lab",
    "lab_session",
    "node_modules",
    "registry",
]
