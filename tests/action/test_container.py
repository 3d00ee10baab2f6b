"""The container action, as a runner starts it, with the Docker of the tests as the host's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.action.test_act import TRAIN_PY, TRAIN_YML
from tests.services import events
from tests.services.act import ROOT, Act, copy_action
from tests.services.dockerd import DockerEngine
from tests.services.events import Event, Webhooks
from tests.services.github import GitHub, Repository

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The repository's Dockerfile on the base of the tests: Debian with a Python and nothing more.

    Made by the older of Docker's builders, as act makes it, which finds these layers again.
    """
    action = copy_action(tmp_path_factory.mktemp("container") / "action")
    env = {**os.environ, "DOCKER_HOST": docker_engine.host, "DOCKER_BUILDKIT": "0"}
    argv = ["/usr/bin/docker", "build", "-q", "--build-arg", f"BASE={base_image}", str(action)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repo(github: GitHub, base_image: str) -> Repository:
    text = TRAIN_YML.replace(
        'environment: {base: "python:3.11-slim"}', f'environment: {{base: "{base_image}"}}'
    )
    made = github.repository(
        "ada/digits", {"train.yml": text.replace("python train.py", "python3 train.py"), "train.py": TRAIN_PY}
    )
    made.grant("ada", "admin")
    return made


@pytest.fixture
def webhooks(github: GitHub, node_modules: Path, repo: Repository) -> Webhooks:
    return Webhooks(node_modules=node_modules, head=repo.head(), server_url=github.url, api_url=github.url)


class Runner:
    """What GitHub's runner does with a container action (ContainerActionHandler.cs in actions/runner)."""

    def __init__(self, engine: DockerEngine, image: str, folder: Path) -> None:
        self.engine, self.image, self.temp = engine, image, folder / "_temp"
        self.home = folder / "home"
        for name in ("_github_home", "_github_workflow", "_runner_file_commands"):
            (self.temp / name).mkdir(parents=True)
        (folder / "workspace").mkdir()
        self.workspace = folder / "workspace"
        self.outputs = self.temp / "_runner_file_commands" / "output"
        self.outputs.touch()

    def start(
        self, event: Event, inputs: Mapping[str, str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        events.write(self.temp / "_github_workflow", event)
        told = {
            **events.environ(event, Path("/github/workflow/event.json")),
            "GITHUB_OUTPUT": "/github/file_commands/output",
            "GITHUB_STEP_SUMMARY": "/github/file_commands/summary",
            "HOME": "/github/home",
            "RUNNER_TEMP": "/github/runner_temp",
            "RUNNER_TRACKING_ID": "github_1",
            "INPUT_HOME": str(self.home),
            **{f"INPUT_{name.upper()}": value for name, value in inputs.items()},
            **(env or {}),
        }
        mounts = {
            str(self.engine.socket): "/var/run/docker.sock",
            str(self.temp): "/github/runner_temp",
            str(self.temp / "_github_home"): "/github/home",
            str(self.temp / "_github_workflow"): "/github/workflow",
            str(self.temp / "_runner_file_commands"): "/github/file_commands",
            str(self.workspace): "/github/workspace",
        }
        argv = ["docker", "run", "--rm", "--workdir=/github/workspace", "--name=action"]
        argv += [f"--env={name}={value}" for name, value in told.items()]
        argv += [f"--volume={source}:{destination}" for source, destination in mounts.items()]
        return subprocess.Popen(
            [*argv, self.image],
            env={**os.environ, "DOCKER_HOST": self.engine.host},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(
        self, event: Event, inputs: Mapping[str, str], env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        process = self.start(event, inputs, env)
        said = process.communicate()[0]
        return process.returncode, said

    @property
    def told(self) -> dict[str, str]:
        """The step's outputs; each is of one line here."""
        lines = self.outputs.read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line and "<<" not in line)
        for at, line in enumerate(lines):
            if "<<" in line:
                found[line.split("<<")[0]] = lines[at + 1]
        return found


@pytest.fixture
def runner(docker_engine: DockerEngine, image: str, tmp_path: Path) -> Iterator[Runner]:
    yield Runner(docker_engine, image, tmp_path)
    for name in docker_engine.docker("ps", "-q").split():
        with contextlib.suppress(RuntimeError):  # It is being removed already.
            docker_engine.docker("rm", "-f", name)


def test_a_push_trains_in_a_container_of_its_own(
    runner: Runner, github: GitHub, repo: Repository, webhooks: Webhooks
) -> None:
    code, said = runner.run(webhooks.push(webhooks.head), {"token": github.token})
    assert code == 0, said
    assert repo.checks()[-1].conclusion == "success"
    assert runner.told["state"] == "succeeded"
    assert json.loads(Path(runner.told["artifacts"], "outputs/model.json").read_text()) == {"rate": 0.1}
    assert repo.release("digits@v1.0.0").draft is False


def test_nothing_is_left_of_a_job_that_has_ended(
    runner: Runner, docker_engine: DockerEngine, github: GitHub, webhooks: Webhooks
) -> None:
    runner.run(webhooks.push(webhooks.head), {"token": github.token})
    _until(lambda: docker_engine.docker("ps", "-aq") == "")


def test_a_cancelled_job_cancels_its_run(
    runner: Runner, docker_engine: DockerEngine, github: GitHub, repo: Repository, webhooks: Webhooks
) -> None:
    process = runner.start(webhooks.workflow_dispatch({"epochs": "1000"}), {"token": github.token})
    _wait_for(process, "training with")
    process.send_signal(signal.SIGINT)  # to the docker client, which passes it on
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert repo.checks()[-1].conclusion == "cancelled"


def test_a_detached_run_lives_on_without_the_actions_container(
    runner: Runner, docker_engine: DockerEngine, github: GitHub, repo: Repository, webhooks: Webhooks
) -> None:
    inputs = {"token": github.token, "detach": "true", "store": str(runner.home / "store")}
    code, said = runner.run(webhooks.workflow_dispatch({"epochs": "1000"}), inputs)
    assert code == 0, said
    (name,) = docker_engine.docker("ps", "-q", "--filter", "label=pushtrain.action").split()
    assert github.token not in docker_engine.docker("inspect", name)
    record = runner.home / "store" / "runs" / runner.told["run-id"] / "run.json"
    _until(lambda: '"running"' in record.read_text())
    python = "/opt/pushtrain/environment/bin/python"
    cancel = ["-P", "-m", "runner.cli", "cancel", "--kill", "--store", str(runner.home / "store")]
    home = f"--env=PUSHTRAIN_HOME={runner.home}"
    docker_engine.docker("exec", home, name, python, *cancel, runner.told["run-id"])
    _until(lambda: docker_engine.docker("ps", "-q") == "")


def test_act_takes_the_action_as_github_does(
    act: Act,
    docker_engine: DockerEngine,
    base_image: str,
    github: GitHub,
    repo: Repository,
    webhooks: Webhooks,
    tmp_path: Path,
) -> None:
    docker_engine.docker("tag", base_image, _base_of_the_dockerfile())
    workflow = tmp_path / "push.yml"
    text = (ROOT / "workflows" / "train-on-push.yml").read_text()
    workflow.write_text(text.replace("pushtrain/pushtrain@v1", "pushtrain/pushtrain/container@v1"))
    result = act(
        workflow,
        webhooks.push(webhooks.head),
        token=github.token,
        home=tmp_path / "home",
        docker=docker_engine,
        timeout_s=400,
    )
    assert result.jobs == {"train": "success"}, result
    assert result.outputs["state"] == "succeeded"
    assert repo.checks()[-1].conclusion == "success"


def _base_of_the_dockerfile() -> str:
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("ARG BASE="):
            return line.removeprefix("ARG BASE=")
    raise AssertionError("the Dockerfile names no base")


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was not printed")


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
