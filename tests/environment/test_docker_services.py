"""The services that the Docker tests stand on."""

from __future__ import annotations

import pytest

from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def test_the_base_image_runs_python(docker_engine: DockerEngine, base_image: str) -> None:
    said = docker_engine.docker("run", "--rm", base_image, "python3", "-c", "print(6 * 7)")

    assert said == "42"


def test_containers_of_one_network_find_each_other_by_name(
    docker_engine: DockerEngine, base_image: str
) -> None:
    serve = "import socket; s = socket.create_server(('', 80)); c, _ = s.accept(); c.sendall(b'here')"
    ask = (
        "import socket, time\n"
        "for _ in range(100):\n"
        "    try: s = socket.create_connection(('server', 80)); break\n"
        "    except ConnectionRefusedError: time.sleep(0.05)\n"
        "print(s.recv(10).decode())"
    )
    docker_engine.docker("network", "create", "pair")
    try:
        run = ("run", "--network", "pair", "--hostname")
        server = docker_engine.docker(
            *run, "server", "-d", "--name", "server", base_image, "python3", "-c", serve
        )
        said = docker_engine.docker(*run, "client", "--rm", base_image, "python3", "-c", ask)
        docker_engine.docker("rm", "-f", server)
    finally:
        docker_engine.docker("network", "rm", "pair")

    assert said == "here"


def test_containers_reach_the_package_index(docker_engine: DockerEngine, base_image: str) -> None:
    ask = "import urllib.request as u; print(u.urlopen('https://pypi.org/simple/six/', timeout=30).status)"

    assert docker_engine.docker("run", "--rm", base_image, "python3", "-c", ask) == "200"


def test_an_image_goes_to_the_registry_and_comes_back(
    docker_engine: DockerEngine, base_image: str, registry: str
) -> None:
    name = f"{registry}/there-and-back:1"
    docker_engine.docker("tag", base_image, name)
    docker_engine.docker("push", name)
    docker_engine.docker("image", "rm", name)

    docker_engine.docker("pull", name)

    assert docker_engine.docker("image", "ls", "-q", name)
