"""A disk of the host that is full is told as that, with the host and the folder, whatever was being written."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import DatasetError, EngineError, StoreError
from runner.host.faults import disk_filled, disk_full
from runner.host.node import Node

from .hosting import job, under_launcher


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("to mount a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_node_that_finds_the_disk_full_says_on_which_host_and_where(small: Path, tmp_path: Path) -> None:
    node = Node(job(tmp_path, *under_launcher("true"), venv="x", work=small / "work", scratch=str(small)))
    with contextlib.suppress(OSError), (small / "filler").open("wb") as file:
        file.write(bytes(2 << 20))
    with pytest.raises(EngineError, match=rf"disk of {os.uname().nodename} is full: .* {small}") as raised:
        node.fetch()
    assert "pushtrain gc" in raised.value.tip


def _fails(error: Exception) -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as full:
        raise error from full


def test_what_the_code_that_wrote_said_in_words_of_its_own_is_seen_through(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is full"), disk_full(tmp_path):
        _fails(StoreError("the source cannot be unpacked"))


def test_other_faults_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError), disk_full(tmp_path):
        raise DatasetError("it is not what was pinned")


def test_a_working_folder_that_its_training_removed_tells_nothing_of_the_disk(tmp_path: Path) -> None:
    assert disk_filled(["OSError: [Errno 28] No space left on device"], tmp_path / "gone") == ""
