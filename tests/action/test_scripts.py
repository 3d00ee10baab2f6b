"""What the action's own scripts do, with a command in Pushtrain's place that tells what it was given."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.services.act import ROOT, copy_action

TELLS = """\
import json, os, sys
told = {"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid(), "path": sys.path, "file": __file__}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = copy_action(tmp_path_factory.mktemp("scripts") / "action")
    (made / "runner" / "cli.py").write_text(TELLS)
    return made


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


def environ(tools: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "RUNNER_TOOL_CACHE": str(tools), **more}


def made(action: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [action / "scripts/action/environment"], env=env, capture_output=True, text=True, check=False
    )


def train(action: Path, env: Mapping[str, str], folder: Path) -> dict[str, object]:
    done = subprocess.run(
        ["bash", action / "scripts/action/train"],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def environment(action: Path, tools: Path) -> Path:
    done = made(action, environ(tools))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_jobs_at_the_same_moment_share_one_environment(action: Path, tmp_path: Path) -> None:
    argv = [action / "scripts/action/environment"]
    both = [
        subprocess.Popen(
            argv, env=environ(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [each.communicate() for each in both]
    assert said[0][0] == said[1][0]
    assert sum("this happens once" in errors for _, errors in said) == 1
    assert (Path(said[0][0].strip()) / "complete").is_file()


def test_an_environment_that_is_there_is_found_in_no_time(
    action: Path, tools: Path, environment: Path
) -> None:
    started_s = time.monotonic()
    again = made(action, environ(tools))
    assert time.monotonic() - started_s < 2
    assert again.stdout.strip() == str(environment)
    assert again.stderr == ""


def test_what_a_killed_job_left_is_made_anew(action: Path, tmp_path: Path) -> None:
    argv = [action / "scripts/action/environment"]
    first = subprocess.Popen(argv, env=environ(tmp_path), start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("pushtrain/*/bin")):
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not list(tmp_path.glob("pushtrain/*/complete"))
    done = made(action, environ(tmp_path))
    assert done.returncode == 0, done.stderr
    assert train(action, environ(tmp_path), tmp_path)["argv"] == ["github", "event"]


def test_a_python_that_is_gone_is_replaced(action: Path, tools: Path, environment: Path) -> None:
    python = environment / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    done = made(action, environ(tools))
    assert done.stdout.strip() == str(environment)
    assert python.exists()


def test_another_version_of_the_code_has_an_environment_of_its_own(
    action: Path, tools: Path, environment: Path
) -> None:
    source = action / "runner" / "errors.py"
    before = source.read_text()
    source.write_text(before + "\n")
    try:
        other = made(action, environ(tools))
    finally:
        source.write_text(before)
    assert other.stdout.strip() != str(environment)


def test_old_environments_go_when_a_new_one_is_made_unless_something_runs_from_them(
    action: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pushtrain"
    for name in ("old", "used", "young"):
        (folder / name / "bin").mkdir(parents=True)
        (folder / name / "complete").touch()
        if name != "young":
            os.utime(folder / name / "complete", (0, 0))
    (folder / "used" / "bin" / "python").symlink_to("/bin/sleep")
    process = subprocess.Popen([folder / "used" / "bin" / "python", "60"])
    try:
        assert made(action, environ(tmp_path)).returncode == 0
    finally:
        process.kill()
        process.wait()
    assert sorted(path.parent.name for path in folder.glob("*/complete"))[-2:] == ["used", "young"]
    assert not (folder / "old").exists()


def test_a_tool_cache_that_cannot_be_written_is_done_without(action: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = environ(tmp_path / "file", HOME=str(tmp_path), UV_CACHE_DIR=str(Path.home() / ".cache" / "uv"))
    assert made(action, env).stdout.startswith(str(tmp_path / ".cache" / "pushtrain"))


def test_the_script_becomes_the_command(action: Path, tools: Path, environment: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["bash", "-e", "-c", f"exec bash {action}/scripts/action/train"],
        env=environ(tools),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = json.loads(process.communicate()[0])
    assert told["pid"] == process.pid
    assert told["argv"] == ["github", "event"]


def test_inputs_take_the_place_of_the_runners_variables_and_empty_ones_do_not(
    action: Path, tools: Path, environment: Path, tmp_path: Path
) -> None:
    env = environ(
        tools,
        PUSHTRAIN_STORE="s3://runner/store",
        PUSHTRAIN_ENGINE="local",
        PUSHTRAIN_INPUT_ENGINE="docker",
        PUSHTRAIN_INPUT_STORE="",
        PUSHTRAIN_INPUT_HOME="/a b/$(id)",
        PUSHTRAIN_INPUT_PARAMS="lr=`id`\nnote='x y'",
        PUSHTRAIN_INPUT_TOKEN="t",
        PUSHTRAIN_INPUT_APP_ID="",
        PUSHTRAIN_INPUT_APP_PRIVATE_KEY="",
        PUSHTRAIN_SIGNING_KEY="k",
        PUSHTRAIN_INPUT_SIGNING_KEY="",
    )
    told = train(action, env, tmp_path)["env"]
    assert isinstance(told, dict)
    assert {name: value for name, value in told.items() if name.startswith("PUSHTRAIN_")} == {
        "PUSHTRAIN_STORE": "s3://runner/store",
        "PUSHTRAIN_ENGINE": "docker",
        "PUSHTRAIN_HOME": "/a b/$(id)",
        "PUSHTRAIN_INPUT_PARAMS": "lr=`id`\nnote='x y'",
        "PUSHTRAIN_TOKEN": "t",
        "PUSHTRAIN_SIGNING_KEY": "k",
    }


def test_both_actions_take_the_same_inputs_and_hand_on_each_of_them() -> None:
    composite, container = (
        yaml.safe_load((ROOT / path).read_text()) for path in ("action.yml", "container/action.yml")
    )
    own = {"artifacts", "artifact-name", "retention-days"}
    assert composite["inputs"].keys() - own == container["inputs"].keys()
    assert composite["outputs"].keys() == container["outputs"].keys()
    given = {f"INPUT_{name.upper()}": "x" for name in container["inputs"]}
    script, entrypoint = composite["runs"]["steps"][0]["env"], environment_of(given)
    assert {name.upper().replace("-", "_") for name in container["inputs"]} == {
        name.removeprefix("PUSHTRAIN_INPUT_") for name in script
    }
    handed = {name.removeprefix("PUSHTRAIN_").removeprefix("INPUT_") for name in entrypoint} - {"RESULTS"}
    assert handed == {name.removeprefix("PUSHTRAIN_INPUT_") for name in script}


def environment_of(given: Mapping[str, str]) -> dict[str, str]:
    loaded = runpy.run_path(str(ROOT / "container" / "entrypoint.py"))
    made: dict[str, str] = loaded["environment"](given)
    return made


def test_the_container_gets_all_of_the_job_and_nothing_of_the_actions_own() -> None:
    told = environment_of(
        {
            "PATH": "/x",
            "HOME": "/github/home",
            "PYTHONPATH": "/workspace",
            "RUNNER_TRACKING_ID": "github_1",
            "DOCKER_HOST": "unix:///host/docker.sock",
            "GITHUB_RUN_ID": "7",
            "KEY": "a\nb",
            "PUSHTRAIN_STORE": "s3://mine",
            "INPUT_STORE": "",
            "INPUT_TRAIN-FILE": "a b.yml",
        }
    )
    results = told.pop("PUSHTRAIN_RESULTS")
    assert results.startswith("/var/lib/pushtrain/results/7-")
    empty = dict.fromkeys(
        f"PUSHTRAIN_INPUT_{name}" for name in ("PARAMS", "DETACH", "FRESH", "KEY", "PROMOTE", "STAGE")
    )
    assert told == {
        "GITHUB_RUN_ID": "7",
        "KEY": "a\nb",
        "PUSHTRAIN_STORE": "s3://mine",
        "PUSHTRAIN_HOME": "/var/lib/pushtrain",
        "PUSHTRAIN_ENGINE": "docker",
        "PUSHTRAIN_INPUT_TRAIN_FILE": "a b.yml",
        **{name: "" for name in empty},
    }


def test_the_runs_supervisor_is_not_among_those_that_the_runner_ends(
    action: Path, tools: Path, environment: Path, tmp_path: Path
) -> None:
    told = train(action, environ(tools, RUNNER_TRACKING_ID="github_1"), tmp_path)["env"]
    assert isinstance(told, dict)
    assert "RUNNER_TRACKING_ID" not in told


def test_no_code_of_the_workspace_is_taken_for_ours(
    action: Path, tools: Path, environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "runner").mkdir()
    for name in ("__init__.py", "cli.py"):
        (tmp_path / "runner" / name).write_text("raise SystemExit('theirs')\n")
    told = train(action, environ(tools, PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere"), tmp_path)
    assert str(told["file"]).startswith(str(environment))
    assert isinstance(told["env"], dict)
    assert told["env"]["PYTHONSAFEPATH"] == "1"
    assert isinstance(told["path"], list)
    assert not any(str(each).startswith(str(action)) or each == "" for each in told["path"])
