"""A plan: everything decided, nothing touched, the same bytes and the same hash for the same inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from runner import plan as plans
from runner.errors import Corrupt, PlanError
from runner.place import Gang
from runner.plan import Plan
from tests.flow import made

RELEASE = made.PLAIN + (
    "release: {model: digits, path: outputs/model, framework: sklearn, when: {branch: main},"
    " resources: {cpu: 1, memory: 512MiB}}\n"
)


def planned(*overrides: str) -> Plan:
    return made.plan(made.TRAIN, overrides=overrides, datasets=(made.DATA,))


def test_equal_inputs_give_the_same_bytes_and_one_hash() -> None:
    one, other = planned("lr=0.5", "layers=3"), planned("layers=3", "lr=0.5")
    assert plans.to_json(one) == plans.to_json(other)
    assert one.hash == other.hash


def test_a_plan_is_read_back_as_it_was_written() -> None:
    for plan in (
        planned(),
        made.plan(RELEASE),
        made.plan(made.PLAIN + "resources: {gpu: 'H100:2', nodes: 2}\n"),
    ):
        assert plans.from_json(plans.to_json(plan)) == plan


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(Corrupt, match="a plan cannot be read"):
        plans.from_json(text)


# What the hash covers


def test_another_commit_with_the_same_tree_has_the_same_hash() -> None:
    other = made.plan(of=made.source(commit="d" * 40, branch="feature"))
    assert other.hash == made.plan().hash
    assert other != made.plan()


def test_the_same_tree_by_hand_with_uncommitted_changes_has_the_same_hash() -> None:
    assert made.plan(of=made.source(dirty=True)).hash == made.plan().hash


def test_another_engine_limit_or_retry_has_the_same_hash() -> None:
    others = (
        made.plan(engine="docker"),
        made.plan(made.PLAIN + "timeout: {run: 1h, silence: 5m}\n"),
        made.plan(made.PLAIN + "retry: {max: 3, exit_codes: [33]}\n"),
        made.plan(made.PLAIN + "policy: {reuse: false}\n"),
        made.plan(made.PLAIN + "secrets: [TOKEN]\n"),
    )
    assert {other.hash for other in others} == {made.plan().hash}


def test_equal_data_elsewhere_has_the_same_hash() -> None:
    moved = replace(made.DATA, source="/elsewhere/mnist", size_bytes=None)
    assert made.plan(made.TRAIN, datasets=(moved,)).hash == planned().hash


@pytest.mark.parametrize(
    "other",
    [
        lambda: planned("lr=0.2"),
        lambda: made.plan(made.TRAIN, datasets=(replace(made.DATA, digest="sha256:" + "0" * 64),)),
        lambda: made.plan(made.TRAIN, datasets=(made.DATA,), recipe=replace(made.ENVIRONMENT, key="0" * 32)),
        lambda: made.plan(made.TRAIN, datasets=(made.DATA,), of=made.source(tree="b" * 40)),
        lambda: made.plan(made.TRAIN + "env: {X: '1'}\n", datasets=(made.DATA,)),
        lambda: made.plan(made.TRAIN + "resources: {nodes: 2}\n", datasets=(made.DATA,)),
        lambda: made.plan(made.TRAIN + "outputs: {path: out}\n", datasets=(made.DATA,)),
        lambda: made.plan(made.TRAIN + "metrics: {primary: loss, goal: minimize}\n", datasets=(made.DATA,)),
        lambda: made.plan(made.TRAIN.replace("train.py", "fit.py"), datasets=(made.DATA,)),
    ],
    ids=["input", "data", "environment", "tree", "env", "gang", "outputs", "metric", "command"],
)
def test_whatever_the_result_depends_on_changes_the_hash(other: Callable[[], Plan]) -> None:
    assert other().hash != planned().hash


def test_the_release_that_is_made_changes_the_hash() -> None:
    assert made.plan(RELEASE).hash != made.plan(RELEASE, of=made.source(branch="feature")).hash


# Parameters


def test_parameters_have_the_types_of_their_declaration() -> None:
    assert planned("lr=1", "layers=3", "optimizer=sgd").inputs == {"layers": 3, "lr": 1.0, "optimizer": "sgd"}


@pytest.mark.parametrize("overrides", [("lr=0.5", "lr=0.25"), ("lr=0.5", "lr=0.5", "lr=0.5")])
def test_a_parameter_given_twice_is_a_mistake(overrides: tuple[str, ...]) -> None:
    with pytest.raises(PlanError) as caught:
        planned(*overrides)
    assert str(caught.value).splitlines()[0] == "lr is given twice"
    assert str(caught.value).count("given twice") == 1


def test_a_value_may_hold_an_equals_sign() -> None:
    text = "name: example\nentrypoint: train.py\ninputs: {filter: {type: string, default: a}}\n"
    assert made.plan(text, overrides=["filter=a=b"]).inputs["filter"] == "a=b"


def test_every_mistake_in_the_parameters_is_told_at_once() -> None:
    text = made.TRAIN.replace(
        "layers: {type: integer, default: 2}", "layers: {type: integer, required: true}"
    )
    with pytest.raises(PlanError) as caught:
        made.plan(text, overrides=["lr", "lrr=1", "lr=many", "lr=7", "optimizer=sdg"], datasets=(made.DATA,))
    message = str(caught.value)
    for expected in (
        "'lr': expected name=value",
        "there is no input 'lrr' (did you mean lr?)",
        "lr=many: 'many' cannot be used",
        "lr=7: 7 is out of bounds",
        "optimizer=sdg: 'sdg' is not an option",
        "did you mean sgd?",
        "input 'layers' has no value",
    ):
        assert expected in message
    assert caught.value.tip == "-p lr=0.1 -p optimizer=sgd -p layers=NUMBER"


def test_an_input_like_no_other_is_told_which_there_are() -> None:
    with pytest.raises(
        PlanError, match=r"no input 'zzz'; there are lr \(number\), layers \(integer\), optimizer"
    ) as caught:
        planned("zzz=1", "layers=3")
    assert caught.value.tip == "-p layers=3"


def test_a_number_that_is_none_is_told_what_one_looks_like() -> None:
    with pytest.raises(
        PlanError, match=r"expected a number of at least 0 and at most 1, such as lr=0\.1$"
    ) as caught:
        planned("lr=x", "optimizer=sgd")
    assert caught.value.tip == "-p lr=0.1 -p optimizer=sgd"


def test_a_required_input_may_be_given() -> None:
    text = made.TRAIN.replace(
        "layers: {type: integer, default: 2}", "layers: {type: integer, required: true}"
    )
    assert made.plan(text, overrides=["layers=4"], datasets=(made.DATA,)).inputs["layers"] == 4


def test_a_file_without_inputs_says_so() -> None:
    with pytest.raises(PlanError) as caught:
        made.plan(overrides=["lr=1"])
    assert str(caught.value) == "there is no input 'lr': train.yml declares none"
    assert caught.value.tip == "leave it out"


# The command


def test_an_entrypoint_gets_its_inputs_as_arguments() -> None:
    text = """\
name: example
entrypoint: train.py
inputs:
  batch-size: {type: integer, default: 50}
  shuffle: {type: boolean, default: true}
"""
    assert made.plan(text).argv == ("python", "train.py", "--batch-size", "50", "--shuffle")


def test_a_shell_script_as_entrypoint_is_run_by_a_shell() -> None:
    assert made.plan("name: example\nentrypoint: train.sh\n").argv == ("/bin/sh", "train.sh")


def test_values_in_a_command_line_are_quoted() -> None:
    text = (
        "name: example\nrun: python train.py ${{ inputs.note }}\ninputs: {note: {type: string, default: x}}\n"
    )
    assert made.plan(text, overrides=["note=; rm -rf / #"]).argv == (
        "/bin/sh",
        "-c",
        "python train.py '; rm -rf / #'",
    )


# The gang and its limits


def test_the_gang_is_that_of_the_file() -> None:
    text = made.PLAIN + (
        "resources: {nodes: 2, gpu: 'H100:4', cpu: 8, memory: 1GiB, shm: 2GiB}\n"
        "distribution: {type: none, processes_per_node: 4}\n"
    )
    plan = made.plan(text)
    assert plan.gang == Gang(
        nodes=2, processes_per_node=4, gpus_per_node=4, gpu_model="H100", cpus=8.0, memory_bytes=1 << 30
    )
    assert plan.shm_bytes == 2 << 30


def test_one_process_on_one_node_is_what_a_file_that_says_nothing_gets() -> None:
    assert made.plan().gang == Gang(nodes=1)


def test_gpu_hours_become_a_time_limit_where_that_is_shorter() -> None:
    gpus = "resources: {gpu: 4, nodes: 2}\npolicy: {max_gpu_hours: 16}\n"
    assert made.plan(made.PLAIN + gpus).limits.run_s == 7200
    assert made.plan(made.PLAIN + gpus + "timeout: {run: 1h}\n").limits.run_s == 3600
    assert made.plan(made.PLAIN + "policy: {max_gpu_hours: 16}\n").limits.run_s is None


def test_gpu_hours_are_for_all_attempts_together_and_the_time_limit_is_for_each() -> None:
    gpus = "resources: {gpu: 4, nodes: 2}\ntimeout: {run: 1h}\n"
    assert made.plan(made.PLAIN + gpus + "policy: {max_gpu_hours: 16}\n").limits.budget_s == 7200
    assert made.plan(made.PLAIN + gpus).limits.budget_s is None


@pytest.mark.parametrize("kind", ["mpi", "torch"])
def test_the_plan_says_how_the_ranks_find_each_other(kind: str) -> None:
    plan = made.plan(made.PLAIN + f"resources: {{nodes: 2..4}}\ndistribution: {kind}\n")
    assert plan.distribution.type == kind
    assert plan.distribution.elastic == (kind == "torch")
    assert any("resources.nodes" in note for note in plan.notes) == (kind != "torch")


def test_labels_are_refused_saying_which_engine_they_need() -> None:
    with pytest.raises(PlanError, match="engine local has one host") as caught:
        made.plan(made.PLAIN + "resources: {labels: {pool: lab}}\n")
    assert caught.value.tip.startswith("--engine slurm, or ")


def test_labels_of_a_fleet_are_the_gangs_in_one_order_and_no_part_of_what_is_trained() -> None:
    asked = made.PLAIN + "resources: {nodes: 2, labels: {zone: b, pool: lab}}\n"
    plan = made.plan(asked, engine="slurm")
    assert plan.gang.labels == (("pool", "lab"), ("zone", "b"))
    assert plan.hash == made.plan(made.PLAIN + "resources: {nodes: 2}\n").hash


def test_a_priority_is_for_the_queue_of_a_fleet() -> None:
    asked = made.PLAIN + "policy: {priority: 80}\n"
    plan = made.plan(asked, engine="slurm")
    assert (plan.priority, plan.notes) == (80, ())
    assert (made.plan().priority, plan.hash) == (50, made.plan().hash)


# The release


def test_the_release_of_the_files_branch_is_planned() -> None:
    release = made.plan(RELEASE).release
    assert release is not None
    assert (release.model, release.path, release.bump, release.cpu, release.memory_bytes) == (
        "digits",
        "outputs/model",
        "minor",
        1.0,
        512 << 20,
    )


@pytest.mark.parametrize(("branch", "told"), [("feature", "this is feature"), (None, "this is no branch")])
def test_another_branch_makes_no_release_and_is_told_so(branch: str | None, told: str) -> None:
    plan = made.plan(RELEASE, of=made.source(branch=branch))
    assert plan.release is None
    assert plan.notes == (f"no release: train.yml releases from branch main, {told}",)


def test_a_release_without_a_condition_is_made_from_any_branch() -> None:
    text = RELEASE.replace(" when: {branch: main},", "")
    assert made.plan(text, of=made.source(branch="feature")).release is not None


def test_what_has_no_effect_by_hand_is_noted() -> None:
    plan = made.plan(made.PLAIN + "concurrency: {group: x}\npolicy: {priority: 80}\n")
    assert [note.partition(":")[0] for note in plan.notes] == ["concurrency", "policy.priority"]


def test_uncommitted_changes_and_branch_are_recorded() -> None:
    asked = made.plan(of=made.source(commit=None, branch=None, dirty=True)).asked
    assert (asked.trigger, asked.commit, asked.branch, asked.dirty) == ("local", None, None, True)


def test_the_json_is_sorted_and_readable() -> None:
    document = json.loads(plans.to_json(planned()))
    assert list(document) == sorted(document)
    assert document["inputs"] == {"layers": 2, "lr": 0.1, "optimizer": "adam"}
