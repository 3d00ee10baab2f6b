"""Fixtures of the whole suite. Those of a session stand here: imported by two folders they would start twice."""

from tests.fixtures.docker import base_image, docker_engine, registry

__all__ = ["base_image", "docker_engine", "registry"]
