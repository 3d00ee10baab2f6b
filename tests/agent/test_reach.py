"""A head that can be reached or not -> what a machine that would join is told."""

from __future__ import annotations

import socket

import pytest

from runner.agent import reach
from runner.errors import EngineError
from runner.slurm.conf import Cluster, Ports


def fleet(port: int, *, address: str = "127.0.0.1") -> Cluster:
    return Cluster(name="yard", head="gpu1", address=address, ports=Ports(slurmctld=port))


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_head_that_answers_is_not_waited_for() -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        reach.await_head(fleet(port), at="127.0.0.1", asked="gpu1", tell=told.append)
    assert told == []


def test_a_head_that_refuses_ends_a_first_join(closed_port: int) -> None:
    with pytest.raises(
        EngineError, match=rf"the head gpu1 does not answer at 127.0.0.1:{closed_port}"
    ) as raised:
        reach.await_head(fleet(closed_port), at="127.0.0.1", asked="gpu1", tell=print, within_s=0.0)
    assert "on the head: pushtrain agent status" in raised.value.tip


def test_another_machine_than_the_head_is_told_from_it(closed_port: int) -> None:
    told = fleet(closed_port, address="10.0.0.1")
    with pytest.raises(
        EngineError, match=r"no head answers at gpu2 .* the head is gpu1 \(10.0.0.1\)"
    ) as raised:
        reach.await_head(told, at="127.0.0.1", asked="gpu2", tell=print, within_s=0.0)
    assert "--join gpu1" in raised.value.tip


def test_who_waits_is_told_for_what(closed_port: int) -> None:
    told: list[str] = []
    with pytest.raises(EngineError):
        reach.await_head(fleet(closed_port), at="127.0.0.1", asked="gpu1", tell=told.append, within_s=0.1)
    assert told[0].startswith("gpu1 does not answer at 127.0.0.1")
