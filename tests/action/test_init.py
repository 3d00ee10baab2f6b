"""`pushtrain init --github` in repositories as people have them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner import spec
from runner.cli import main


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "-b", "trunk", tmp_path], check=True)
    (tmp_path / "train.py").write_text("import argparse\n")
    return tmp_path


def init(folder: Path, *options: str) -> int:
    return main(["init", str(folder), "--github", *options])


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / ".github/workflows").glob("*"))}


def test_an_empty_repository_gets_all_that_makes_the_next_push_train(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(repository) == 0
    assert list(files(repository)) == ["train-dispatch.yml", "train-on-comment.yml", "train-on-push.yml"]
    read = spec.load(repository / "train.yml")
    assert read.on.push is not None
    assert read.on.push.branches == ("trunk",)
    assert read.on.comment is not None
    assert '- "trunk"' in files(repository)["train-on-push.yml"]
    said = capsys.readouterr().out
    assert "checks: write         the check on the commit" in said
    assert (
        "issues: write         reactions on the command: seen, done, failed (train-on-comment alone)" in said
    )


def test_the_branch_of_the_remote_goes_before_the_one_that_is_checked_out(repository: Path) -> None:
    for argv in (
        ["commit", "-q", "--allow-empty", "-m", "x"],
        ["update-ref", "refs/remotes/origin/stable", "HEAD"],
        ["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/stable"],
    ):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", repository, *argv], check=True
        )
    init(repository)
    assert '- "stable"' in files(repository)["train-on-push.yml"]


def test_an_own_train_yml_is_kept_and_has_only_the_workflows_it_asks_for(repository: Path) -> None:
    text = "name: x\nentrypoint: train.py\non: {comment: {}, dispatch: false}\n"
    (repository / "train.yml").write_text(text)
    assert init(repository) == 0
    assert list(files(repository)) == ["train-on-comment.yml"]
    assert (repository / "train.yml").read_text() == text


def test_the_check_tells_what_is_out_of_step_and_init_mends_it(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(repository)
    assert init(repository, "--check") == 0
    written = (repository / "train.yml").read_text()
    (repository / "train.yml").write_text(written + "inputs: {lr: 0.1}\nsecrets: [KEY]\n")
    before = files(repository)
    capsys.readouterr()
    assert init(repository, "--check") == 65
    said = capsys.readouterr().out
    assert "+      lr:" in said
    assert "+          KEY: ${{ secrets.KEY }}" in said
    assert files(repository) == before
    assert init(repository) == 0
    assert init(repository, "--check") == 0


def test_the_check_tells_of_files_that_are_missing_or_left_over(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(repository)
    (repository / ".github/workflows/train-dispatch.yml").unlink()
    text = (repository / "train.yml").read_text()
    (repository / "train.yml").write_text(text.replace("  push: {branches: [trunk]}\n", ""))
    capsys.readouterr()
    assert init(repository, "--check") == 65
    said = capsys.readouterr().out
    assert ".github/workflows/train-dispatch.yml is missing" in said
    assert ".github/workflows/train-on-push.yml has no use any more" in said
    init(repository)
    assert "git rm .github/workflows/train-on-push.yml" in capsys.readouterr().out


def test_changes_by_hand_outside_of_the_generated_lines_are_kept(repository: Path) -> None:
    init(repository)
    path = repository / ".github/workflows/train-on-push.yml"
    path.write_text(path.read_text().replace("[self-hosted]", "[mine]"))
    (repository / "train.yml").write_text((repository / "train.yml").read_text() + "secrets: [KEY]\n")
    assert init(repository) == 0
    assert "[mine]" in path.read_text()
    assert "secrets.KEY" in path.read_text()


def test_a_file_of_somebody_else_stops_it_before_anything_is_written(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = repository / ".github/workflows"
    folder.mkdir(parents=True)
    (folder / "train-dispatch.yml").write_text("mine\n")
    assert init(repository) == 64
    assert files(repository) == {"train-dispatch.yml": "mine\n"}
    assert "--force" in capsys.readouterr().err
    assert init(repository, "--check") == 65
    assert init(repository, "--force") == 0
    assert "workflow_dispatch" in files(repository)["train-dispatch.yml"]


def test_a_release_that_comes_later_is_told_which_permission_is_missing(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(repository)
    release = "release: {model: m, path: outputs/m, framework: x}\n"
    (repository / "train.yml").write_text((repository / "train.yml").read_text() + release)
    capsys.readouterr()
    init(repository)
    assert "it does not grant `contents: write`: models become tags and releases" in capsys.readouterr().out
    init(repository, "--force")
    assert "does not grant" not in capsys.readouterr().out


def test_the_action_and_the_runner_are_the_teams_choice(repository: Path) -> None:
    init(repository, "--action", "me/fork@0123abc", "--runs-on", "self-hosted, gpu")
    text = files(repository)["train-on-push.yml"]
    assert "uses: me/fork@0123abc # zizmor" in text
    assert "runs-on: [self-hosted, gpu]\n" in text


@pytest.mark.parametrize(
    "options", [("--action", "x"), ("--action", "a/b@c\n      - run: x"), ("--runs-on", "a]\n")]
)
def test_what_would_break_the_file_is_refused(repository: Path, options: tuple[str, str]) -> None:
    assert init(repository, *options) == 64
    assert files(repository) == {}


def test_a_train_yml_in_a_folder_is_named_from_the_top(repository: Path) -> None:
    folder = repository / "models" / "big"
    folder.mkdir(parents=True)
    assert init(folder) == 0
    text = files(repository)["train-on-push-models-big.yml"]
    assert 'train-file: "models/big/train.yml"' in text
    assert "`pushtrain init --github models/big`" in text


def test_options_of_the_workflows_need_them(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path), "--check"]) == 64
    assert list(tmp_path.iterdir()) == []
