"""A run that succeeded -> the model version that its plan promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from runner import models, release, runs
from runner.errors import ModelError
from runner.manifest import FileEntry, Manifest
from runner.plan import Plan
from runner.runs import Run, State
from runner.store import Store
from tests.flow import made

RUN = "20260101-000000-aaaa"
TEXT = (
    made.PLAIN
    + "release: {model: digits, path: outputs/model, framework: sklearn, resources: {memory: 1GiB}}\n"
)


@pytest.fixture
def plan() -> Plan:
    return made.plan(TEXT)


@pytest.fixture
def run(store: Store, plan: Plan) -> Run:
    made.run(store, RUN, State.PREPARING, State.RUNNING, State.PUBLISHING, made=plan)
    return runs.update(
        store, RUN, lambda run: structs.replace(run, metric=("accuracy", 0.97), environment_digest="d")
    )


def sealed(store: Store, tmp_path: Path, *paths: str) -> Manifest:
    entries = []
    for path in paths:
        (tmp_path / "file").write_text(path)
        blob = store.put_blob(tmp_path / "file")
        entries.append(FileEntry(path=path, size_bytes=blob.size_bytes, digest=blob.digest))
    return Manifest(files=tuple(entries))


def test_what_lies_below_the_path_is_registered_with_its_lineage(
    store: Store, plan: Plan, run: Run, tmp_path: Path
) -> None:
    manifest = sealed(
        store, tmp_path, "outputs/model/weights", "outputs/model/vars/0", "outputs/log", "logs/x"
    )
    version = release.register(store, plan, run, manifest, venv=None)
    assert (version.name, version.version, version.resources.memory_bytes) == ("digits", "1.0.0", 1 << 30)
    assert [file.path for file in version.files] == ["weights", "vars/0"]
    lineage = version.lineage
    assert (lineage.run_id, lineage.plan_hash, lineage.tree) == (RUN, plan.hash, plan.tree)
    assert (lineage.commit, lineage.branch, lineage.dirty) == ("c" * 40, "main", False)
    assert (lineage.environment.key, lineage.environment.digest) == (made.ENVIRONMENT.key, "d")
    assert lineage.metrics == {"accuracy": 0.97}


def test_publishing_again_registers_no_second_version(
    store: Store, plan: Plan, run: Run, tmp_path: Path
) -> None:
    manifest = sealed(store, tmp_path, "outputs/model/weights")
    first = release.register(store, plan, run, manifest, venv=None)
    assert release.register(store, plan, run, manifest, venv=None) == first
    assert len(list(models.versions(models.StoreShelf(store), "digits"))) == 1


def test_one_file_may_be_the_model(store: Store, run: Run, tmp_path: Path) -> None:
    plan = made.plan(TEXT.replace("outputs/model", "outputs/model.joblib"))
    manifest = sealed(store, tmp_path, "outputs/model.joblib", "outputs/model.joblib.md5")
    version = release.register(store, plan, run, manifest, venv=None)
    assert [file.path for file in version.files] == ["model.joblib"]


def test_a_run_that_wrote_no_model_is_told_what_it_wrote(
    store: Store, plan: Plan, run: Run, tmp_path: Path
) -> None:
    manifest = sealed(store, tmp_path, "outputs/modell/weights", "logs/x")
    with pytest.raises(ModelError, match="wrote nothing to outputs/model") as caught:
        release.register(store, plan, run, manifest, venv=None)
    assert "it wrote logs/x, outputs/modell" in caught.value.tip


def test_a_run_that_wrote_nothing_is_told_so(store: Store, plan: Plan, run: Run) -> None:
    with pytest.raises(ModelError) as caught:
        release.register(store, plan, run, Manifest(files=()), venv=None)
    assert "no outputs at all" in caught.value.tip


# The framework's version


def venv(tmp_path: Path, *installed: str) -> Path:
    for name in installed:
        (tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / f"{name}.dist-info").mkdir(parents=True)
    return tmp_path / "venv"


@pytest.mark.parametrize(
    ("framework", "installed", "version"),
    [
        ("sklearn", "scikit_learn-1.7.2", "1.7.2"),
        ("tensorflow", "tensorflow_cpu-2.15.1", "2.15.1"),
        ("pytorch", "torch-2.13.0+cpu", "2.13.0+cpu"),
        ("xgboost", "xgboost-3.0.0", "3.0.0"),
        ("tensorflow", "tensorflow_hub-0.16.1", None),
        ("sklearn", "numpy-2.0.0", None),
    ],
)
def test_the_frameworks_version_is_the_installed_one(
    plan: Plan, tmp_path: Path, framework: str, installed: str, version: str | None
) -> None:
    assert release.framework_version(framework, plan, venv=venv(tmp_path, installed)) == version


@pytest.mark.parametrize(
    ("framework", "pip", "version"),
    [
        ("sklearn", "scikit-learn==1.7.2", "1.7.2"),
        ("SKLearn", "Scikit_Learn==1.7.2", "1.7.2"),
        ("tensorflow", "tensorflow-cpu[and-cuda]==2.15.1 ; python_version > '3.8'", "2.15.1"),
        ("sklearn", "scikit-learn>=1.7", None),
        ("sklearn", "--index-url https://example.org", None),
        ("sklearn", "./wheels/scikit_learn-1.7.2.whl", None),
        ("pytorch", "torch==2.13.0 --hash=sha256:1", "2.13.0"),
    ],
)
def test_in_an_image_the_frameworks_version_is_the_pinned_one(
    framework: str, pip: str, version: str | None
) -> None:
    plan = made.plan(TEXT, recipe=replace(made.ENVIRONMENT, kind="image", pip=(pip,)))
    assert release.framework_version(framework, plan, venv=None) == version


def test_a_version_in_the_file_goes_before_what_is_installed(store: Store, run: Run, tmp_path: Path) -> None:
    plan = made.plan(TEXT.replace("framework: sklearn", "framework: sklearn, framework_version: '1.5'"))
    manifest = sealed(store, tmp_path, "outputs/model/weights")
    version = release.register(store, plan, run, manifest, venv=venv(tmp_path, "scikit_learn-1.7.2"))
    assert version.framework_version == "1.5"


def test_what_plan_and_run_know_is_the_origin_of_the_version(plan: Plan, run: Run) -> None:
    pushed = replace(plan, asked=replace(plan.asked, trigger="push", by="ann", branch="main"))

    found = release.origin(pushed, run)

    assert (found.ref, found.trigger, found.by, found.engine) == (
        "refs/heads/main",
        "push",
        "ann",
        run.engine,
    )
    assert (found.started_at_s, found.finished_at_s) == (run.created_at_s, None)
    tagged = replace(pushed, asked=replace(pushed.asked, tag="v1"))
    assert release.origin(tagged, run).ref == "refs/tags/v1"
    forked = replace(pushed, asked=replace(pushed.asked, fork=True, branch="bob:main"))
    assert release.origin(forked, run).ref is None
