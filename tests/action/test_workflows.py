"""What the workflow files say, read back as GitHub reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import document, spec
from runner.errors import SpecError
from runner.github.permissions import FEATURES
from runner.quantities import format_value
from runner.report import comment
from runner.workflows import PERMISSIONS, Setting, Workflow, promotion, renewed, workflows
from runner.workflows.words import quoted

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent


def made(text: str, setting: Setting | None = None) -> dict[str, Workflow]:
    return {each.name: each for each in workflows(spec.parse(text), setting or Setting())}


def text_of(workflow: Workflow) -> str:
    assert workflow.text is not None
    return workflow.text


def read(workflow: Workflow) -> Any:
    """As GitHub reads it: YAML 1.2, where `on` is a word."""
    document_ = document.parse(text_of(workflow), path=workflow.name)
    assert not document_.faults
    assert yaml.compose(text_of(workflow)) is not None  # and a reader of YAML 1.1 takes it, too
    return document_.data


def lint(folder: Path, *paths: Path) -> None:
    for name, *options in (
        # As in a repository without a configuration for it.
        ["zizmor", "--offline", "--quiet", "--no-config", "--persona", "pedantic"],
        ["actionlint"],
        ["check-jsonschema", "--quiet", "--builtin-schema", "vendor.github-workflows"],
    ):
        done = subprocess.run([BIN / name, *options, *paths], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


BASE = "name: x\nentrypoint: train.py\n"
SHIPPED = sorted((ROOT / "workflows").glob("*.yml"))


def test_the_workflows_of_this_repository_are_what_its_example_gives() -> None:
    example = spec.load(HERE / "example.yml")
    given = {each.name: each.text for each in (*workflows(example, Setting()), promotion(Setting()))}
    assert given == {path.name: path.read_text() for path in SHIPPED}


def test_no_linter_finds_anything_in_what_is_shipped() -> None:
    lint(ROOT, *SHIPPED, *sorted((ROOT / ".github/workflows").glob("*.yml")))


def test_no_linter_finds_anything_whatever_train_yml_holds(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    setting = Setting(train_file="a b/nasty.yml")
    for each in workflows(spec.load(HERE / "nasty.yml"), setting):
        assert each.text is not None
        (folder / each.name).write_text(each.text)
    lint(tmp_path, *sorted(folder.iterdir()))


@pytest.mark.parametrize("ref", ["v1", "0" * 40])
def test_no_linter_finds_anything_in_a_promotion_or_at_a_commit(tmp_path: Path, ref: str) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    setting = Setting(action=f"lab/pushtrain@{ref}")
    for each in (*workflows(spec.load(HERE / "example.yml"), setting), promotion(setting)):
        (folder / each.name).write_text(text_of(each))
        assert ("ignore[unpinned-uses]" in text_of(each)) == (ref == "v1")
    lint(tmp_path, *sorted(folder.iterdir()))


def test_inputs_are_typed_fields_of_the_form() -> None:
    form = read(made((HERE / "nasty.yml").read_text())["train-dispatch.yml"])["on"]["workflow_dispatch"][
        "inputs"
    ]
    assert {name: (field["type"], field.get("default")) for name, field in form.items()} == {
        "quotes": ("string", 'it\'s "so" \\ and: {a: [b]} # no comment'),
        "lines": ("string", "one\ntwo\r\nthree"),
        "described": ("string", ""),
        "options": ("choice", "2.5"),
        "Case": ("number", 1),
        "small": ("number", 1e-12),
        "huge": ("number", 1e300),
        "long": ("string", "9007199254740993"),
        "whole": ("number", 3),
        "flag": ("boolean", True),
        "null": ("string", None),
        "yes": ("boolean", None),
        "emoji": ("string", "🙂 ünï \u200b \U000e0001"),
        "command": ("string", "::set-output name=x::y"),
        "fresh": ("boolean", False),
    }
    assert form["options"]["options"] == ["1", "2.5", "true", "null", "- x", "a: b"]
    assert [name for name, field in form.items() if field["required"]] == ["null", "yes"]
    assert form["lines"]["description"] == "one\ntwo\u2028three\u0085four\u00a0\ufeff"


@pytest.mark.parametrize(
    "line",
    [
        "inputs: {a: {type: string, default: '${{ github.token }}'}}",
        "inputs: {a: {default: x, description: '${{ github.token }}'}}",
        "inputs: {a: {default: x, options: [x, '${{ github.token }}']}}",
        "on: {push: {branches: ['${{ github.token }}']}}",
        "on: {schedule: ['${{ github.token }}']}",
        "concurrency: {group: '${{ github.token }}', cancel-in-progress: true}",
    ],
)
def test_train_yml_takes_no_expression_of_github_that_a_workflow_would_evaluate(line: str) -> None:
    with pytest.raises(SpecError):
        made(BASE + line)


def test_inputs_that_differ_in_case_alone_are_one_field() -> None:
    found = made((HERE / "nasty.yml").read_text())["train-dispatch.yml"]
    assert found.notes == (
        "case is no field of the form: GitHub does not tell it from one of the same letters",
    )


def test_every_default_of_the_form_is_the_one_of_train_yml() -> None:
    declared = spec.load(HERE / "nasty.yml").inputs
    form = read(made((HERE / "nasty.yml").read_text())["train-dispatch.yml"])["on"]["workflow_dispatch"][
        "inputs"
    ]
    for name, field in form.items():
        if name in declared and declared[name].default is not None:
            assert declared[name].parse(format_value(field["default"])) == declared[name].default, name


def test_more_inputs_than_github_takes_become_one_field() -> None:
    text = BASE + "inputs:\n" + "".join(f"  i{n}: {n}\n" for n in range(26))
    found = made(text)["train-dispatch.yml"]
    assert list(read(found)["on"]["workflow_dispatch"]["inputs"]) == ["params", "fresh"]
    assert "26 inputs are more than GitHub's 25" in found.notes[0]


@pytest.mark.parametrize("count", [24, 25])
def test_the_form_never_has_more_than_25_fields(count: int) -> None:
    text = BASE + "inputs:\n" + "".join(f"  i{n}: {n}\n" for n in range(count))
    assert len(read(made(text)["train-dispatch.yml"])["on"]["workflow_dispatch"]["inputs"]) == 25


def test_an_input_named_like_ours_is_the_users_own() -> None:
    found = read(made(BASE + "inputs: {fresh: 3}\n")["train-dispatch.yml"])
    assert found["on"]["workflow_dispatch"]["inputs"]["fresh"]["type"] == "number"


@pytest.mark.parametrize(
    ("triggers", "expected"),
    [
        (
            "on: {push: {branches: [main], paths: ['src/**']}}",
            {"push": {"branches": ["main"], "paths": ["src/**"]}},
        ),
        ("on: {push: {}}", {"push": {"branches": ["**"]}}),
        ("on: {push: {tags: ['v*']}}", {"push": {"tags": ["v*"]}}),
        ("on: {schedule: ['0 3 * * 1']}", {"schedule": [{"cron": "0 3 * * 1"}]}),
    ],
)
def test_pushes_and_the_clock_start_what_train_yml_names(triggers: str, expected: object) -> None:
    assert read(made(BASE + triggers)["train-on-push.yml"])["on"] == expected


def test_a_trigger_that_train_yml_has_not_gets_no_workflow() -> None:
    found = made(BASE + "on: {dispatch: false}\n")
    assert {name: each.text for name, each in found.items()} == dict.fromkeys(found)


def test_secrets_are_passed_by_name_and_none_takes_the_place_of_what_the_runner_set() -> None:
    found = made((HERE / "nasty.yml").read_text())
    for each in found.values():
        (step,) = read(each)["jobs"]["train"]["steps"]
        assert step["env"] == {
            name: f"${{{{ secrets.{name} }}}}"
            for name in ("GITHUB_TOKEN", "NO", "PIP_INDEX_PASSWORD", "WANDB_API_KEY", "null")
        }
    assert [note.split()[2] for note in found["train-on-push.yml"].notes] == [
        "PATH", "GITHUB_SHA", "RUNNER_TEMP", "LD_PRELOAD",
    ]  # fmt: skip


def test_a_newer_push_ends_the_older_job_where_train_yml_cancels_its_run() -> None:
    group = 'concurrency: {group: "g-${{ ref }}", cancel-in-progress: true}\n'
    assert read(made(BASE + "on: push\n" + group)["train-on-push.yml"])["concurrency"] == {
        "group": "train-on-push-g-${{ github.ref }}",
        "cancel-in-progress": True,
    }


@pytest.mark.parametrize(
    "concurrency",
    [
        "",
        "concurrency: g\n",
        'inputs: {a: 1}\nconcurrency: {group: "${{ inputs.a }}", cancel-in-progress: true}\n',
    ],
)
def test_jobs_do_not_wait_for_each_other_elsewhere(concurrency: str) -> None:
    for each in made(BASE + "on: [push, comment]\n" + concurrency).values():
        assert read(each)["concurrency"] == {
            "group": "${{ github.workflow }}-${{ github.run_id }}",
            "cancel-in-progress": False,
        }


def test_each_feature_on_github_has_its_permission_in_some_workflow() -> None:
    granted = {f"{each.name}: {each.access}" for each in PERMISSIONS}
    needed = {each.permission for each in FEATURES} - {"metadata: read"}
    assert {each for each in needed if each.replace("read", "write") not in granted} == set()


def test_permissions_to_write_contents_are_asked_for_only_with_a_release() -> None:
    without, with_ = made(BASE + "on: push\n"), made((HERE / "example.yml").read_text())
    assert read(without["train-on-push.yml"])["jobs"]["train"]["permissions"]["contents"] == "read"
    assert read(with_["train-on-push.yml"])["jobs"]["train"]["permissions"]["contents"] == "write"
    assert "id-token" not in read(with_["train-on-comment.yml"])["jobs"]["train"]["permissions"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_workflow_checks_out_or_pastes_anything(path: Path) -> None:
    parsed: Any = document.parse(path.read_text(), path=path.name).data
    for job in parsed["jobs"].values():
        assert [step["uses"] for step in job["steps"]] == ["pushtrain/pushtrain@v1"]
        assert all("run" not in step for step in job["steps"])


def test_our_own_comments_start_no_job_whoever_wrote_them() -> None:
    condition = read(made(BASE + "on: comment\n")["train-on-comment.yml"])["jobs"]["train"]["if"]
    start = comment.marker("x").removesuffix("x -->")
    assert f"&& !startsWith(github.event.comment.body, '{start}')" in condition


def test_a_train_yml_below_the_top_has_workflows_of_its_own() -> None:
    found = made(BASE + "on: push\n", Setting(train_file="models/Big one/train.yml"))
    assert list(found) == [
        "train-on-push-models-big-one.yml",
        "train-on-comment-models-big-one.yml",
        "train-dispatch-models-big-one.yml",
    ]
    assert read(found["train-on-push-models-big-one.yml"])["jobs"]["train"]["steps"][0]["with"] == {
        "train-file": "models/Big one/train.yml"
    }


def test_labels_of_runners_are_text() -> None:
    found = made(BASE, Setting(runs_on=("self-hosted", "no", "gpu x", "ubuntu-24.04")))["train-dispatch.yml"]
    assert read(found)["jobs"]["train"]["runs-on"] == ["self-hosted", "no", "gpu x", "ubuntu-24.04"]


def test_generated_lines_are_renewed_and_all_else_is_kept() -> None:
    old, new = made(BASE + "on: push\n"), made(BASE + "on: {push: {branches: [next]}}\nsecrets: [KEY]\n")
    was, wanted = text_of(old["train-on-push.yml"]), text_of(new["train-on-push.yml"])

    def by_hand(text: str) -> str:
        return text.replace("[self-hosted]", "[mine]").replace(
            "        with:\n", "        with:\n          engine: docker\n"
        )

    assert renewed(by_hand(was), wanted) == by_hand(wanted)
    assert renewed(by_hand(wanted), wanted) == by_hand(wanted)


def test_renewed_lines_stand_where_their_block_was_moved_to() -> None:
    wanted = "  # pushtrain: begin a\n  x:\n    y\n  # pushtrain: end a\n"
    assert renewed("a:\n    # pushtrain: begin a\n    # pushtrain: end a\n", wanted) == (
        "a:\n    # pushtrain: begin a\n    x:\n      y\n    # pushtrain: end a\n"
    )


@pytest.mark.parametrize(
    "found",
    [
        "nothing of ours\n",
        "# pushtrain: begin a\n",
        "# pushtrain: end a\n",
        "# pushtrain: begin a\n# pushtrain: begin a\n# pushtrain: end a\n",
        "# pushtrain: begin a\n# pushtrain: end b\n",
        "# pushtrain: begin b\n# pushtrain: end b\n",
        2 * "# pushtrain: begin a\n# pushtrain: end a\n",
    ],
)
def test_a_file_that_is_not_ours_is_not_touched(found: str) -> None:
    assert renewed(found, "# pushtrain: begin a\n# pushtrain: end a\n") is None


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    cleaned = text.encode("utf-8", errors="replace").decode()
    written = f"a: {quoted(cleaned)}\n"
    assert document.parse(written, path="x").data == {"a": cleaned}
    assert yaml.safe_load(written) == {"a": cleaned}
    assert "\n" not in quoted(cleaned)
