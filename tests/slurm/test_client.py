from __future__ import annotations

from pathlib import Path

import pytest

from runner.slurm.client import Slurm


def test_no_command_of_slurms_carries_the_token_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are many, and each would show it in /proc."""
    (tmp_path / "squeue").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "INPUT_TOKEN", "PUSHTRAIN_TOKEN", "PUSHTRAIN_APP_KEY"):
        monkeypatch.setenv(name, "token")
    assert "=token" not in Slurm(conf=None).run("squeue")
    said = Slurm(conf=None).run("squeue", environ={"GH_TOKEN": "of a run", "GITHUB_TOKEN": "token"})
    assert "GH_TOKEN=of a run" in said, "what train.yml lists as a secret reaches sbatch"
    assert "=token" not in said
