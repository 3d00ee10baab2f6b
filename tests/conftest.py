"""Fixtures of the whole suite: imported by two folders, those of a session would start twice."""

from tests.fixtures.act import act, action_copy
from tests.fixtures.docker import base_image, docker_engine, registry
from tests.fixtures.github import github, node_modules

__all__ = ["act", "action_copy", "base_image", "docker_engine", "github", "node_modules", "registry"]
