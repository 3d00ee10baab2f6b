"""`fleet`: a repository on the lab's three hosts. After each test nothing of its runs may be left on any of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.project import wait_for
from tests.lab import Lab
from tests.slurm.project import FleetProject, fleet_project, push_base


@pytest.fixture(scope="session")
def shared_base(lab_session: Lab) -> str:
    """The reference of the base image in the lab's registry."""
    lab = lab_session
    here, there = lab.base_image(), push_base(lab)
    for host in lab.hosts:
        host.docker("rmi", "--no-prune", here, *([there] if host is lab.head else []))
    return there


@pytest.fixture
def fleet(
    request: pytest.FixtureRequest, lab: Lab, shared_base: str, tmp_path: Path
) -> Iterator[FleetProject]:
    """A project whose runs go to the lab. Hosts that a test broke are mended."""
    folder = lab.plan.share / tmp_path.name
    failed = request.session.testsfailed
    try:
        with fleet_project(lab, folder, shared_base) as made:
            yield made
            if request.session.testsfailed > failed:
                return  # Its run may go on for long.
            wait_for(
                lambda: not made.leftovers(),
                what="nothing of an ended run left",
                told=lambda: "\n".join([*made.leftovers(), made.told()]),
                within_s=120,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
