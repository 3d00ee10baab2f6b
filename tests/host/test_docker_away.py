"""A Docker that does not answer is told in a sentence, whatever the libraries in between make of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

CONNECT = """
from runner.errors import DockerAway
from runner.host.docker_host import connect
try:
    connect()
except DockerAway as error:
    print(error)
"""
BRING = """
import os, pathlib, sys
from runner.host.images import bring
from runner.host.progress import Progress
def tell(event):
    print(event["waits"], flush=True)
    os._exit(0)
bring("x@sha256:0", cache=pathlib.Path("/nowhere"), progress=Progress("image", tell))
"""


def said(path: Path, program: str = CONNECT) -> str:
    """What is said of a Docker with that socket; in a process of its own, since its library leaves a socket open."""
    environ = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environ, text=True, capture_output=True, check=True, timeout=60).stdout


def test_a_docker_that_was_killed_is_told_by_what_the_machine_says(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert said(path) == "Docker does not answer: Connection refused\n"


def test_a_docker_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    assert said(tmp_path / "docker.sock") == "Docker does not answer: its socket is not there\n"


def test_who_waits_for_the_image_is_told_at_once_that_docker_is_away(tmp_path: Path) -> None:
    told = said(tmp_path / "docker.sock", BRING)
    assert told == "Docker does not answer: its socket is not there; trying again for 20 s\n"
