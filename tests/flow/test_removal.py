from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import removal


def test_a_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "run" / "work").mkdir(parents=True)
    (tmp_path / "run" / "work" / "file").write_text("x")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "kept")

    removal.remove(tmp_path / "run")
    removal.remove(tmp_path / "run")

    assert not (tmp_path / "run").exists()
    assert (tmp_path / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root's rights, so it has to have them")
def test_permissions_that_a_training_took_away_do_not_keep_it(tmp_path: Path) -> None:
    for name in ("a", "a/b", "c"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "file").write_text("x")
    for name in ("a/b", "a", "c", "."):
        (tmp_path / "run" / name).chmod(0)
    script = "import sys, pathlib; from runner import removal; removal.remove(pathlib.Path(sys.argv[1]))"

    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    subprocess.run([*unprivileged, sys.executable, "-c", script, tmp_path / "run"], check=True)

    assert not (tmp_path / "run").exists()
