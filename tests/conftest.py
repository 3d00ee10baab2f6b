"""Fixtures of the whole suite: imported by two folders, those of a session would start twice."""

from tests.fixtures.docker import base_image, docker_engine, registry

__all__ = ["base_image", "docker_engine", "registry"]
