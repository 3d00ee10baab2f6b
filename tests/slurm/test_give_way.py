"""A job that goes back into the queue behind others, while Slurm ends it with a SIGTERM: no cluster."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from runner.slurm import Slurm
from runner.slurm.allocation import Allocation


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scontrol was asked; it ends who asks to requeue, as slurmd does."""
    path, scontrol = tmp_path / "said", tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {path}\n[ "$1" = update ] || kill -TERM $PPID $$\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=":")
    return path


def test_who_gives_way_is_ended_only_when_slurm_knows_behind_whom(said: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        Allocation(slurm=Slurm(), job="7", name="run", restarts=0, hosts=1).requeue(behind=["3", "5"])
        assert heard == []
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM], "later ones are heard again"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said.read_text().splitlines() == ["requeue 7", "update JobId=7 Dependency=singleton,afterany:3:5"]
