"""`pushtrain models … --store github://OWNER/REPO`: as against a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.cli import main
from tests.publish import made
from tests.publish.made import Desk

STORE = ("--store", "github://lab/mnist")
Told = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _surroundings(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUSHTRAIN_TOKEN", "PUSHTRAIN_APP_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in desk.repo.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PUSHTRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PUSHTRAIN_STORE", str(tmp_path / "store"))


@pytest.fixture
def two(desk: Desk) -> None:
    for run in ("run-1", "run-2"):
        desk.publish(desk.version(run=run, commit=desk.repo.push("main", {run: "1"})))


def test_models_are_listed_with_their_stages(two: None, capsys: Told) -> None:
    assert main(["promote", "digits@1.0.0", "production", *STORE]) == 0
    assert main(["models", *STORE]) == 0

    out = capsys.readouterr().out
    assert "digits#production#1: digits@1.0.0 is production" in out
    assert "1.1.0" in out
    assert "production 1.0.0" in out


def test_a_version_is_shown_with_the_command_that_brings_it(two: None, capsys: Told) -> None:
    assert main(["models", "show", "digits", *STORE]) == 0

    out = capsys.readouterr().out
    assert "digits@1.1.0" in out
    assert "get it: pushtrain models download digits@1.1.0 --store github://lab/mnist" in out


def test_the_store_may_be_named_before_the_command_below(two: None, capsys: Told) -> None:
    assert main(["models", *STORE, "show", "digits@1.0.0"]) == 0
    assert "github://lab/mnist" in capsys.readouterr().out


def test_a_model_is_brought_by_its_stage(two: None, tmp_path: Path) -> None:
    assert main(["models", *STORE, "promote", "digits@1.1.0", "production"]) == 0
    assert main(["models", "download", "digits#production", str(tmp_path / "model"), *STORE]) == 0

    assert (tmp_path / "model" / "variables" / "index").read_bytes() == made.FILES["variables/index"]


def test_a_stage_is_given_back(two: None, capsys: Told) -> None:
    for version in ("1.0.0", "1.1.0"):
        assert main(["promote", f"digits@{version}", "production", *STORE]) == 0
    assert main(["rollback", "digits", "production", *STORE]) == 0

    assert "digits#production#3: digits@1.0.0 is production again" in capsys.readouterr().out


def test_a_model_that_nobody_signed_is_verified_against_the_registry(two: None, capsys: Told) -> None:
    assert main(["models", "verify", "digits@1.0.0", "--unsigned-ok", *STORE]) == 0
    assert main(["models", "verify", "digits@1.0.0", *STORE]) == 76


def test_a_mistake_is_answered_with_a_command_for_the_same_place(two: None, capsys: Told) -> None:
    assert main(["models", "show", "digit", *STORE]) == 76

    err = capsys.readouterr().err
    assert "did you mean digits?" in err
    assert "tip: pushtrain models --store github://lab/mnist" in err


def test_one_model_that_was_tampered_with_hides_no_other(two: None, desk: Desk, capsys: Told) -> None:
    desk.publish(desk.version(name="another", run="run-3"))
    document = desk.repo.release("digits@v1.1.0").assets[-1]
    document.path.write_bytes(b"{}")
    document.size_bytes, document.digest = 2, None

    assert main(["models", *STORE]) == 76

    told = capsys.readouterr()
    assert "another" in told.out
    assert "pushtrain-model.json of the release digits@v1.1.0" in told.err


def test_without_a_token_the_way_to_one_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Told) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")

    assert main(["models", *STORE]) == 64
    assert "tip: export GITHUB_TOKEN=$(gh auth token)" in capsys.readouterr().err
