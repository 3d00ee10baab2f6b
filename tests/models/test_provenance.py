import base64
import dataclasses
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from runner.models import DataUsed, EnvironmentUsed, ModelFile, Resources, Version
from runner.models.provenance import Origin, attest, on_github, statement
from runner.models.shelf import StoreShelf
from runner.models.signing import keygen
from runner.store import open_store
from tests.models.test_registry import LINEAGE

DIGEST = "sha256:" + "ab" * 32

VERSION = Version(
    name="digits",
    version="1.2.0",
    framework="tensorflow",
    framework_version="2.15.1",
    resources=Resources(cpu=1.0, memory_bytes=None),
    files=(
        ModelFile(path="variables/index", size_bytes=5, digest="sha256:" + "cd" * 32),
        ModelFile(path="saved_model.pb", size_bytes=7, digest=DIGEST),
    ),
    lineage=LINEAGE,
    created_at_s=1000.5,
)

ORIGIN = Origin(
    builder="https://github.com/ann/digits/.github/workflows/train.yml@refs/heads/main",
    repository="https://github.com/ann/digits",
    ref="refs/heads/main",
    train_file="train.yml",
    trigger="push",
    by="ann",
    engine="docker",
    workflow="ann/digits/.github/workflows/train.yml@refs/heads/main",
    job_url="https://github.com/ann/digits/actions/runs/7/attempts/1",
    started_at_s=1_700_000_000.0,
    finished_at_s=1_700_000_100.9,
)


def read(version: Version = VERSION, origin: Origin = ORIGIN) -> dict[str, Any]:
    return dict(json.loads(statement(version, origin)))


def lineage(**changes: Any) -> Version:
    return dataclasses.replace(VERSION, lineage=dataclasses.replace(LINEAGE, **changes))


def definition(version: Version = VERSION, origin: Origin = ORIGIN) -> dict[str, Any]:
    return dict(read(version, origin)["predicate"]["buildDefinition"])


@pytest.mark.parametrize("origin", [ORIGIN, Origin()], ids=["github", "local"])
@pytest.mark.parametrize(
    "version",
    [VERSION, lineage(commit=None, branch=None, data=(), metrics={}), lineage(dirty=True)],
    ids=["clean", "no git", "dirty"],
)
def test_a_statement_is_one_by_the_published_definitions(version: Version, origin: Origin) -> None:
    made = read(version, origin)

    # Unknown fields and wrong types are errors of the parser.
    parsed = json_format.ParseDict(made, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = json_format.ParseDict(made["predicate"], provenance_pb2.Provenance())
    assert predicate.build_definition.build_type == "urn:pushtrain:build-type:train:v1"
    assert predicate.run_details.builder.id == origin.builder
    for each in (*predicate.build_definition.resolved_dependencies, *predicate.run_details.byproducts):
        assert each.uri or each.digest or each.content


def test_every_file_is_a_subject_with_its_digest() -> None:
    assert read()["subject"] == [
        {"name": "saved_model.pb", "digest": {"sha256": "ab" * 32}},
        {"name": "variables/index", "digest": {"sha256": "cd" * 32}},
    ]


def test_the_same_version_gives_the_same_bytes_in_whatever_order_files_and_inputs_are() -> None:
    turned = lineage(inputs=dict(reversed(list(LINEAGE.inputs.items()))))
    turned = dataclasses.replace(turned, files=tuple(reversed(VERSION.files)))

    assert statement(turned, ORIGIN) == statement(VERSION, ORIGIN)


def test_what_was_asked_for_and_what_was_decided_are_told_apart() -> None:
    made = definition()

    assert made["externalParameters"] == {
        "model": "digits",
        "source": {
            "repository": "https://github.com/ann/digits",
            "commit": "c" * 40,
            "ref": "refs/heads/main",
            "branch": "main",
            "trainFile": "train.yml",
        },
        "inputs": {"rate": 0.1, "batch": 50, "name": "1", "fast": True},
        "trigger": "push",
        "by": "ann",
        "workflow": "ann/digits/.github/workflows/train.yml@refs/heads/main",
    }
    assert made["internalParameters"] == {
        "version": "1.2.0",
        "run": "run-1",
        "planHash": "p",
        "tree": "t" * 40,
        "dirty": False,
        "engine": "docker",
        "job": "https://github.com/ann/digits/actions/runs/7/attempts/1",
    }


def test_everything_that_went_in_is_a_dependency_with_its_digest() -> None:
    image = EnvironmentUsed(kind="image", key="k", digest="registry/train@sha256:" + "e" * 64)

    assert definition(lineage(environment=image))["resolvedDependencies"] == [
        {
            "name": "source",
            "uri": "git+https://github.com/ann/digits@refs/heads/main",
            "digest": {"gitCommit": "c" * 40},
        },
        {"name": "environment", "uri": "urn:pushtrain:environment:image:k", "digest": {"sha256": "e" * 64}},
        {"name": "mnist", "digest": {"sha256": "d" * 64}},
    ]


def test_uncommitted_changes_are_a_tree_that_no_commit_has() -> None:
    source = definition(lineage(dirty=True))["resolvedDependencies"][0]

    assert source["digest"] == {"gitTree": "t" * 40}
    assert source["annotations"] == {"basedOn": "c" * 40}


def test_what_a_server_says_of_data_is_not_told_as_a_digest() -> None:
    told = definition(lineage(data=(DataUsed(name="web", digest="etag:abc"),)))["resolvedDependencies"][-1]

    assert told == {"name": "web", "uri": "urn:pushtrain:data:etag:abc"}


def test_the_run_is_the_invocation_and_metrics_are_a_byproduct() -> None:
    details = read()["predicate"]["runDetails"]

    assert details["metadata"] == {
        "invocationId": "run-1",
        "startedOn": datetime.fromtimestamp(1_700_000_000, UTC).isoformat().replace("+00:00", "Z"),
        "finishedOn": "2023-11-14T22:15:00Z",
    }
    (metrics,) = details["byproducts"]
    assert json.loads(base64.b64decode(metrics["content"])) == {"accuracy": 0.97, "loss": "Infinity"}


def test_what_nobody_knows_is_left_out() -> None:
    made = definition(lineage(commit=None, branch=None, metrics={"a": math.nan}), Origin())

    assert made["externalParameters"]["source"] == {}
    assert "engine" not in made["internalParameters"]
    assert b"null" not in statement(VERSION, Origin())


def test_a_token_in_the_address_of_the_repository_is_not_told() -> None:
    made = statement(VERSION, Origin(repository="https://x-access-token:s3cret@github.com/ann/digits"))

    assert b"s3cret" not in made
    assert b"https://github.com/ann/digits" in made


JOB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "ann/digits",
    "GITHUB_WORKFLOW_REF": "ann/digits/.github/workflows/train.yml@refs/heads/main",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
}


def test_a_job_of_a_workflow_is_its_builder() -> None:
    origin = on_github(Origin(engine="local"), JOB)

    assert origin == Origin(
        builder="https://github.com/ann/digits/.github/workflows/train.yml@refs/heads/main",
        repository="https://github.com/ann/digits",
        workflow="ann/digits/.github/workflows/train.yml@refs/heads/main",
        job_url="https://github.com/ann/digits/actions/runs/7/attempts/2",
        engine="local",
    )


@pytest.mark.parametrize("missing", ["GITHUB_ACTIONS", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW_REF"])
def test_outside_of_a_job_an_origin_stays_as_it_is(missing: str) -> None:
    environ = {name: value for name, value in JOB.items() if name != missing}

    assert on_github(Origin(by="ann"), environ) == Origin(by="ann")


def test_the_first_signed_statement_stays(tmp_path: Path) -> None:
    shelf = StoreShelf(open_store(tmp_path / "store"))
    shelf.add_version(VERSION)
    keygen(tmp_path / "first.key")
    keygen(tmp_path / "second.key")

    unsigned = attest(shelf, VERSION, ORIGIN, {})
    assert (unsigned.kind, shelf.statement(VERSION)) == ("none", None)
    first = attest(shelf, VERSION, ORIGIN, {"PUSHTRAIN_SIGNING_KEY_FILE": str(tmp_path / "first.key")})
    second = attest(shelf, VERSION, ORIGIN, {"PUSHTRAIN_SIGNING_KEY_FILE": str(tmp_path / "second.key")})

    assert first.kind == "key"
    assert second.document == first.document == shelf.statement(VERSION)
