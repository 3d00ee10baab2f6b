"""What a pull request may decide, and what the base branch decides for it."""

from __future__ import annotations

import pytest

from runner import spec as specs
from runner import trust
from runner.errors import PlanError, Refused
from runner.spec import Spec

BASE = """\
name: example
run: python train.py --data ${{ datasets.mnist }} --lr ${{ inputs.lr }}
inputs: {lr: {type: number, default: 0.1}, part: {type: string, default: small}}
datasets: {mnist: {source: "s3://bucket/mnist/${{ inputs.part }}"}}
environment: {base: "team/base:1", build_secrets: [INDEX_TOKEN]}
secrets: [API_TOKEN]
env: {TOKEN: "Bearer ${{ secrets.API_TOKEN }}", RATE: "${{ inputs.lr }}"}
resources: {nodes: 2, gpu: "H100:4", memory: 8GiB}
metrics: {primary: accuracy, fail_if: "< 0.9"}
timeout: {run: 1h}
policy: {max_gpu_hours: 4}
concurrency: {group: "${{ ref }}", cancel-in-progress: true}
release: {model: digits, path: outputs/model, framework: none}
on: {comment: {roles: [maintain]}}
"""


def said(**changes: str) -> Spec:
    """BASE with some of its lines replaced, by the key at their beginning; an empty text takes one out."""
    lines = BASE.splitlines()
    for key, text in changes.items():
        lines = [line for line in lines if not line.startswith(f"{key}:")]
        lines += [f"{key}: {text}"] if text else []
    return specs.parse("\n".join(lines) + "\n")


OURS = said()


def test_who_may_and_what_is_released_is_the_base_branchs() -> None:
    theirs = said(
        on="{comment: {roles: [read]}}",
        policy="{max_gpu_hours: 4000}",
        release="{model: other, path: outputs, framework: none}",
        concurrency="{group: mine}",
        environment='{base: "team/base:1", build_secrets: [AWS_SECRET_ACCESS_KEY]}',
    )

    decided, notes = trust.apply(theirs, OURS, fork=False)

    assert decided == OURS
    assert len(notes) == 1
    assert notes[0].startswith("on, policy, release, concurrency, environment.build_secrets: as the base")


def test_what_is_trained_is_the_branchs_own() -> None:
    theirs = said(run="python other.py", env="{RATE: '1'}", resources='{gpu: "H100:8"}', timeout="{run: 9h}")

    decided, notes = trust.apply(theirs, OURS, fork=False)

    assert decided == theirs
    assert notes == ()


def test_neither_labels_nor_priority_are_the_branchs() -> None:
    theirs = said(
        resources='{nodes: 2, gpu: "H100:4", memory: 8GiB, labels: {pool: big}}', policy="{priority: 100}"
    )

    decided, notes = trust.apply(theirs, OURS, fork=False)

    assert decided == OURS
    assert notes == (
        "policy, resources.labels: as the base branch's train.yml says, not as this branch's does",
    )


def test_a_secret_that_the_base_branch_does_not_list_is_empty() -> None:
    theirs = said(
        secrets="[API_TOKEN, OTHER]",
        env="{A: 'x${{ secrets.OTHER }}y', B: '${{ secrets.API_TOKEN }}-${{ run.id }}'}",
        run="python train.py ${{ secrets.OTHER }}",
    )

    decided, notes = trust.apply(theirs, OURS, fork=False)

    assert decided.secrets == ("API_TOKEN",)
    assert decided.env == {"A": "xy", "B": "${{ secrets.API_TOKEN }}-${{ run.id }}"}
    assert notes[-1] == "secrets.OTHER is empty in this run"


def test_a_lower_bar_is_told_and_a_fork_cannot_set_it() -> None:
    theirs = said(metrics='{primary: accuracy, fail_if: "< 0.1"}')

    mine, notes = trust.apply(theirs, OURS, fork=False)
    forked, fork_notes = trust.apply(theirs, OURS, fork=True)

    assert mine.metrics == theirs.metrics
    lower, bar = (f"accuracy, maximize, fails if < {value}" for value in ("0.1", "0.9"))
    assert notes == (f"the gate differs from the base branch's: {lower} instead of {bar}",)
    assert forked.metrics == OURS.metrics
    assert "metrics: as the base branch's train.yml says, not as the fork's does" in fork_notes


def test_a_fork_gets_no_secret_no_release_and_no_more_time() -> None:
    theirs = said(timeout="{}", retry="{max: 100}")

    decided, notes = trust.apply(theirs, OURS, fork=True)

    assert (decided.secrets, decided.environment.build_secrets, decided.release) == ((), (), None)
    assert decided.env == {"TOKEN": "Bearer ", "RATE": "${{ inputs.lr }}"}
    assert (decided.timeout, decided.retry, decided.policy) == (OURS.timeout, OURS.retry, OURS.policy)
    assert notes == (
        "a fork's run: no secrets, no network while it trains, no release, no share in caches",
        "timeout, retry: as the base branch's train.yml says, not as the fork's does",
        "secrets.API_TOKEN is empty in this run",
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"datasets": "{mnist: {source: /etc}}"}, "datasets.mnist: source, mode and digest"),
        (
            {"datasets": "{mnist: {source: 's3://bucket/mnist/${{ inputs.part }}', digest: 'sha256:%s'}}" % ("a" * 64)},
            "datasets.mnist: source, mode and digest",
        ),
        ({"datasets": "{mnist: x, keys: ~/.ssh}"}, "datasets.keys: the base branch has no such data set"),
        ({"inputs": "{lr: {type: number, default: 1}, part: {type: string, default: ../keys}}"}, "inputs.part: "),
        ({"environment": "{image: 'team/private:3'}"}, "environment.image: team/private:3 is neither"),
        ({"environment": "{base: 'team/private:3'}"}, "environment.base: team/private:3 is neither"),
        ({"environment": "{dockerfile: Dockerfile}"}, "environment.dockerfile: the base branch has no Dockerfile"),
        ({"resources": "{nodes: 3, gpu: 'H100:4', memory: 8GiB}"}, "resources.nodes: 3, and the base branch has 2"),
        ({"resources": "{gpu: 'H100:5', memory: 8GiB}"}, "resources.gpu: 5, and the base branch has 4"),
        ({"resources": "{gpu: 'A100:1', memory: 8GiB}"}, "resources.gpu: A100, and the base branch has H100"),
        ({"resources": "{gpu: 1, memory: 8GiB}"}, "resources.gpu: any model, and the base branch has H100"),
        ({"resources": "{memory: 9GiB}"}, "resources.memory: 9 GiB, and the base branch has 8 GiB"),
        ({"resources": "{nodes: 1}"}, "resources.memory: no limit, and the base branch has 8 GiB"),
        ({"resources": "{memory: 1GiB, shm: 2GiB}"}, "resources.shm: 2 GiB, and the base branch has 1 GiB"),
        ({"resources": "{memory: 1GiB, labels: {pool: big}}"}, "resources.labels: "),
        ({"distribution": "{type: none, processes_per_node: 50}"}, "processes on each node: 50, and the base branch"),
    ],
)  # fmt: skip
def test_a_fork_is_refused_what_reaches_beyond_its_container(changes: dict[str, str], fault: str) -> None:
    theirs = said(run="python train.py", **changes)

    with pytest.raises(Refused) as caught:
        trust.apply(theirs, OURS, fork=True)

    assert f"  {fault}" in str(caught.value)
    assert "push the commit to a branch of this repository" in caught.value.tip
    trust.apply(theirs, OURS, fork=False)


def test_all_that_a_fork_may_not_ask_for_is_told_at_once() -> None:
    theirs = said(run="python x.py", datasets="{a: /etc, b: /root}", environment="{image: 'x/y'}")

    with pytest.raises(Refused) as caught:
        trust.apply(theirs, OURS, fork=True)

    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("base", ["python:3.12-slim", "team/base:1"])
def test_a_fork_may_train_on_the_same_image_or_an_official_one(base: str) -> None:
    theirs = said(environment=f"{{base: '{base}', pip: [numpy]}}")

    decided, _ = trust.apply(theirs, OURS, fork=True)

    assert decided.environment.base == base
    assert decided.environment.pip == ("numpy",)


def test_a_group_that_names_an_input_which_the_branch_has_not_is_told() -> None:
    ours = said(concurrency="'${{ inputs.part }}'")
    theirs = said(inputs="{lr: {type: number, default: 1}}", run="x ${{ inputs.lr }}", datasets="", env="{}")

    with pytest.raises(PlanError, match="has not: part"):
        trust.apply(theirs, ours, fork=False)


def test_places_in_train_yml_are_still_known() -> None:
    decided, _ = trust.apply(said(), OURS, fork=True)
    assert decided.position("run") == OURS.position("run")
    assert decided.position("run")[0] > 1
