"""What makes an image is tried again while its registry or this host's Docker is away, and then says so."""

from __future__ import annotations

import os

import pytest

from runner.environment import Image
from runner.environment.client import Refused, refusal
from runner.errors import DockerAway, EnvironmentFailed, PushtrainError
from runner.preparation import patiently

IMAGE = Image(key="k", reference="r", digest="d", pinned="p")
DOWN = "Error response from daemon: Get http://10.0.0.1:5000/v2/: dial tcp 10.0.0.1:5000: connect: connection refused"
GONE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


class Maker:
    """Fails with each of those in turn, the last one for ever, unless that is an image."""

    def __init__(self, *ends: PushtrainError | Image) -> None:
        self.ends, self.asked = [*ends], 0

    def __call__(self) -> Image:
        self.asked += 1
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, Image):
            return end
        raise end


def patient(make: Maker, told: list[str], *, within_s: float = 60.0) -> Image:
    return patiently(
        make,
        tell=told.append,
        log=lambda _: None,
        within_s=within_s,
        docker_within_s=within_s,
        pause_s=0.0,
    )


@pytest.mark.parametrize(
    "said",
    [
        DOWN,
        GONE,
        "unexpected EOF",
        "received unexpected HTTP status: 503 Service Unavailable",
        "unexpected status code 502",
        "dial tcp: lookup registry on 10.0.0.1:53: server misbehaving",
        "dial tcp: lookup registry: Temporary failure in name resolution",
    ],
)
def test_what_passes_is_tried_again_and_told_meanwhile(said: str) -> None:
    told: list[str] = []
    make = Maker(refusal("pull registry/x", said), IMAGE)
    assert patient(make, told) == IMAGE
    assert make.asked == 2
    assert told[0].startswith(f"{os.uname().nodename}: ")
    assert told[0].endswith("; trying again")
    assert told[-1] == ""


@pytest.mark.parametrize(
    "said",
    [
        "manifest unknown",
        "unauthorized: authentication required",
        "no space left on device",
        "toomanyrequests: you may pull 500 images per hour",
        "dial tcp: lookup regisry.example.com: no such host",
    ],
)
def test_what_a_registry_says_for_good_is_raised_at_once(said: str) -> None:
    make = Maker(refusal("pull registry/x", said))
    with pytest.raises(Refused):
        patient(make, [])
    assert make.asked == 1


def test_a_registry_that_stays_away_is_told_with_the_host_and_what_to_do() -> None:
    with pytest.raises(
        EnvironmentFailed, match="connection refused; the registry did not answer for 0 s"
    ) as raised:
        patient(Maker(refusal("pull registry/x", DOWN)), [], within_s=0.0)
    assert os.uname().nodename in str(raised.value)
    assert "pushtrain run" in raised.value.tip


def test_a_docker_that_stays_away_is_not_taken_for_a_registry() -> None:
    with pytest.raises(DockerAway, match=f"{os.uname().nodename}: Docker does not answer"):
        patient(Maker(refusal("pull registry/x", GONE)), [], within_s=0.0)
