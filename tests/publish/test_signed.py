"""A release that a workflow signed through Sigstore: from its statement to `pushtrain models verify`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import models
from runner.cli import main
from runner.models.provenance import Origin, attest, on_github
from runner.publish.github import publish
from tests.publish.made import Desk
from tests.services.sigstore import Instance, serving

STORE = ("--store", "github://lab/mnist")
SERVER = "https://github.com"
JOB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": SERVER,
    "GITHUB_REPOSITORY": "lab/mnist",
    "GITHUB_WORKFLOW_REF": "lab/mnist/.github/workflows/train.yml@refs/heads/main",
    "GITHUB_RUN_ID": "7",
}


@pytest.fixture
def instance() -> Iterator[Instance]:
    with serving(Instance(repository="lab/mnist")) as served:
        yield served


@pytest.fixture
def _released(desk: Desk, instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = str(instance.trust(tmp_path / "trust.json"))
    version = desk.version()
    origin = on_github(Origin(by="ann"), JOB)
    environ = {**JOB, **instance.environ, "PUSHTRAIN_SIGSTORE": trust}
    signed = attest(models.StoreShelf(desk.store), version, origin, environ)
    assert signed.kind == "sigstore", signed.note
    document = signed.document
    publish(desk.repository, desk.store, version, origin=origin, server_url=SERVER, statement=document)
    for name, value in {**desk.repo.environ(), "GITHUB_SERVER_URL": SERVER}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PUSHTRAIN_SIGSTORE", trust)
    monkeypatch.setenv("PUSHTRAIN_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("_released")
def test_any_workflow_of_the_repository_that_is_the_registry_may_have_signed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "verify", "digits", *STORE]) == 0

    out = capsys.readouterr().out
    assert "✓ signed by https://github.com/lab/mnist/.github/workflows/train.yml@refs/heads/main" in out
    assert out.endswith("digits@1.0.0 is what was registered\n")


@pytest.mark.usefixtures("_released")
def test_a_workflow_of_another_repository_may_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify", "digits", *STORE, "--repository", "lab/other"]) == 76
    assert "does not count" in capsys.readouterr().out


@pytest.mark.usefixtures("_released")
def test_the_card_says_who_signed_and_how_to_verify(desk: Desk) -> None:
    body = desk.repo.release("digits@v1.0.0").body or ""

    assert "signed through Sigstore by the workflow that published it" in body
    assert "pushtrain models verify digits@1.0.0 --store github://lab/mnist" in body


@pytest.mark.usefixtures("_released")
def test_its_assets_in_one_folder_are_verified_by_themselves(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "assets"
    folder.mkdir()
    for asset in desk.repo.release("digits@v1.0.0").assets:
        shutil.copy(asset.path, folder / asset.name)
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    command = ["models", "verify", "digits@1.0.0", str(folder), "--repository", "lab/mnist"]

    assert main(command) == 0
    record = json.loads((folder / "pushtrain-model.json").read_text())
    record["version"]["lineage"]["commit"] = "0" * 40
    (folder / "pushtrain-model.json").write_text(json.dumps(record))
    assert main(command) == 76
    assert "✗ the commit of the registry's record is not the statement's: 00000000" in capsys.readouterr().out
