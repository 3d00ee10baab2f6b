"""Fixtures of the whole suite: imported by two folders, those of a session would start twice."""

from tests.fixtures.docker import base_image, docker_engine, registry
from tests.fixtures.github import github, node_modules

__all__ = ["base_image", "docker_engine", "github", "node_modules", "registry"]
