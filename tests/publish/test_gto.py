"""GTO, the published tool, reads the tags that publishing and promoting make, and the other way round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.models import find, promote, rollback, stages
from tests.publish.made import Desk

GTO = Path(sys.executable).with_name("gto")
BEGIN_S = 1_760_000_000.0
ENVIRON = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null"} | {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "gina"), ("EMAIL", "gina@example.org"))
}


@pytest.fixture
def clone(desk: Desk, tmp_path: Path) -> Path:
    """A clone by git of what was published and promoted: three versions, two stages, one rollback."""
    for run in range(3):
        with desk.github.at(BEGIN_S + run):
            commit = desk.repo.push("main", {"train.py": f"lr = {run}"})
            desk.publish(desk.version(run=f"run-{run}", commit=commit))
    given = [("1.0.0", "production"), ("1.2.0", "staging"), ("1.2.0", "production")]
    for number, (version, stage) in enumerate(given):
        with desk.github.at(BEGIN_S + 60 + number):
            promote(desk.shelf, "digits", version, stage, by="ann", at_s=5.5, expected=None)
    with desk.github.at(BEGIN_S + 120):
        rollback(desk.shelf, "digits", "production", by="eve", at_s=6.5)
    run_git("clone", "-q", desk.repo.git_url_with(desk.github.token), str(tmp_path / "clone"), cwd=tmp_path)
    return tmp_path / "clone"


def run_git(*args: str, cwd: Path) -> None:
    subprocess.run(["git", *args], cwd=cwd, check=True, env=ENVIRON)


def gto(*args: str, cwd: Path) -> Any:
    command = [str(GTO), *args, "--json"]
    done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True, env=ENVIRON)
    return json.loads(done.stdout)


def test_gto_shows_the_newest_version_and_who_stands_in_each_stage(clone: Path) -> None:
    assert gto("show", cwd=clone) == {
        "digits": {
            "version": "v1.2.0",
            "stage": {"production": "v1.0.0", "staging": "v1.2.0"},
            "registered": True,
            "active": True,
        }
    }


def test_gto_tells_the_history_of_versions_and_promotions(clone: Path) -> None:
    events = [
        (each["event"], each["version"], each.get("stage"))
        for each in reversed(gto("history", "digits", cwd=clone))
        if each["event"] != "commit"
    ]

    assert events == [
        ("registration", "v1.0.0", None),
        ("registration", "v1.1.0", None),
        ("registration", "v1.2.0", None),
        ("assignment", "v1.0.0", "production"),
        ("assignment", "v1.2.0", "staging"),
        ("assignment", "v1.2.0", "production"),
        ("assignment", "v1.0.0", "production"),
    ]


def test_a_stage_that_gto_gave_counts(desk: Desk, clone: Path) -> None:
    before = time.time()
    subprocess.run(
        [GTO, "assign", "digits", "--version", "v1.1.0", "--stage", "production"],
        cwd=clone,
        check=True,
        env=ENVIRON,
        stdout=subprocess.DEVNULL,
    )
    run_git("push", "-q", "--tags", cwd=clone)

    promotion = stages(desk.shelf, "digits")["production"]
    assert (promotion.version, promotion.by) == ("1.1.0", "gina")
    assert promotion.at_s >= int(before)
    assert find(desk.shelf, "digits#production").version == "1.1.0"
    assert rollback(desk.shelf, "digits", "production", by="ann", at_s=7.0).version == "1.0.0"
