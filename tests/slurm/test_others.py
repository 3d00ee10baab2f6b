"""What scontrol says of hosts -> which of them are other machines than this one."""

from __future__ import annotations

import pytest

from runner.slurm.nodes import read
from tests.fakes.slurm import host


@pytest.mark.parametrize(
    ("address", "is_here"),
    [("127.0.0.1", True), ("localhost", True), ("192.0.2.7", False), ("nowhere.invalid", False)],
)
def test_a_host_is_this_machine_by_its_address_whatever_it_is_called(address: str, is_here: bool) -> None:
    (found,) = read(host("gpu7").replace("NodeAddr=gpu7", f"NodeAddr={address}"))
    assert (found.address, found.is_here()) == (address, is_here)
