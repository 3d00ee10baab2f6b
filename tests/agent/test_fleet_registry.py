"""The registry that the head of a fleet serves: images go from host to host by it, and nobody else gets any."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.joined import Joined
from tests.engines.project import wait_for
from tests.fixtures.docker import load_base_image
from tests.lab import Lab
from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

LOGIN = "/run/pushtrain/docker"
# A run on one host: where it lies is said by its label.
TRAIN = """
print("environment", sorted(name for name in os.environ if "DOCKER" in name))
print("docker.sock and run", os.path.exists("/run/docker.sock"), os.path.exists("/run/pushtrain"))
print("mounts", "pushtrain/docker" in open("/proc/self/mountinfo").read())
"""


@pytest.fixture
def fleet(bare_lab: Lab, tmp_path: Path) -> Iterator[Joined]:
    """h0 is the head and h1 a host, each with a label of its own; h2 is a client."""
    lab, folder = bare_lab, bare_lab.plan.share / tmp_path.name
    folder.mkdir()
    made = Joined(
        folder=folder / "repository",
        home=tmp_path / "home",
        engine="slurm",
        environment={"base": load_base_image(lab.head.engine), "pip": []},
        store_uri=str(folder / "store"),
        environ={"PUSHTRAIN_ENGINE": "slurm"},
        lab=lab,
        me="h0",
    )
    made.agent("h0", "start", "--head", "--serve-registry", "--store", made.store_uri, "--label", "at=head")
    token = folder / "token"
    shutil.copy(lab.head.path("/var/lib/pushtrain/token"), token)
    token.chmod(0o600)
    made.agent("h1", "start", "--join", "h0", "--token-file", str(token), "--label", "at=host")
    made.agent("h2", "start", "--client", "--join", "h0", "--token-file", str(token))
    wait_for(lambda: made.states() == {"h0": "idle", "h1": "idle"}, what="hosts", told=made.told, within_s=90)
    yield made
    made.end()
    shutil.rmtree(folder, ignore_errors=True)


def asked(host: Host, registry: str, *, words: str = "") -> str:
    """How the registry answers who asks it from that host."""
    argv = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *words.split(), f"http://{registry}/v2/")
    return host.run(*argv, check=False).stdout


def test_an_image_of_one_host_is_trained_on_by_another_and_nobody_gets_it_without_the_password(
    fleet: Joined,
) -> None:
    head, other, client = (fleet.host(name) for name in ("h0", "h1", "h2"))
    registry = f"{head.address}:5000"
    wait_for(lambda: asked(other, registry) == "401", what="the registry", told=fleet.told)
    assert asked(other, registry, words="-u pushtrain:guessed") == "401"
    assert not head.path("/var/lib/pushtrain/htpasswd").stat().st_mode & 0o077

    fleet.write(TRAIN, resources={"labels": {"at": "head"}})
    first = fleet.pushtrain("run", within_s=120)
    assert first.code == 0, first.output + fleet.told()
    image = fleet.run.environment
    assert image.startswith(f"{registry}/pushtrain-env:")
    refused = other.run("docker", "pull", image, check=False)
    assert "no basic auth credentials" in refused.stderr

    fleet.me = "h2"
    fleet.environ = {**fleet.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    fleet.environment = {"image": image}
    fleet.write(TRAIN, resources={"labels": {"at": "host"}})
    second = fleet.pushtrain("run", "--fresh", within_s=120)
    assert second.code == 0, second.output + fleet.told()
    assert fleet.reservation(fleet.run.id) == ["h1"]
    assert image.rpartition(":")[0] in other.docker("image", "ls", "--format", "{{.Repository}}")
    assert "environment []" in fleet.log(fleet.run.id)
    assert "run False False" in fleet.log(fleet.run.id)
    assert "mounts False" in fleet.log(fleet.run.id)

    for host in (head, other, client):
        kept = host.path(LOGIN)
        assert (kept.stat().st_mode & 0o777, (kept / "config.json").stat().st_mode & 0o777) == (0o700, 0o600)
    fleet.agent("h2", "stop")
    fleet.agent("h1", "leave")
    assert not other.path(LOGIN).exists()
