"""What Slurm calls to start and stop machines has the credentials of the agent, though Slurm gives it none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.agent import inventory, layout
from tests.agent.test_settings import OURS
from tests.agent.test_token import OURS as TOKEN
from tests.fixtures.s3 import CREDENTIALS
from tests.providers.test_ec2 import Cloud, cloud, endpoint

__all__ = ["cloud", "endpoint"]

# As the agent, to whoever looks at its command line.
AGENT = "import sys; print('up', flush=True); sys.stdin.read()"
SCONTROL = """#!/bin/sh
case "$1 $2" in
"show node") echo "NodeName=a-1 NodeAddr=a-1 CPUTot=8 CPUAlloc=0 RealMemory=9 State=IDLE+CLOUD+POWERING_DOWN" ;;
esac
"""


@pytest.fixture
def hooks(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a head that grows: its real hooks, written by whoever typed `agent start`."""
    run, state, bin = tmp_path / "run", tmp_path / "head", tmp_path / "bin"
    for each in (run, state / "log", bin):
        each.mkdir(parents=True)
    (bin / "scontrol").write_text(SCONTROL)
    (bin / "scontrol").chmod(0o755)
    (state / "elastic.yml").write_text(cloud.text)
    (state / "token").write_text("pushtrain1.secret\n")
    monkeypatch.setenv("PUSHTRAIN_RUN", str(run))
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    settings = replace(OURS, role="head", home=str(tmp_path / "home"))
    layout.write(settings, TOKEN, inventory.look(tmp_path), state=state)
    return run


@pytest.fixture
def agent(hooks: Path) -> Iterator[None]:
    """A process that has the credentials in its environment, as systemd gives them to the agent."""
    argv = [sys.executable, "-c", AGENT, "-m", "runner.agent"]
    given = {"PATH": os.environ["PATH"], **CREDENTIALS}
    with subprocess.Popen(argv, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (hooks / "agent.pid").write_text(f"{process.pid}\n")
        yield
        process.kill()


def call(hook: Path, name: str) -> None:
    """As slurmctld does."""
    subprocess.run(["env", "-i", str(hook), name], check=True, capture_output=True, timeout=90)


@pytest.mark.usefixtures("agent")
def test_a_hook_that_slurm_starts_without_an_environment_has_the_agents_credentials(
    cloud: Cloud, hooks: Path
) -> None:
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    assert all(f"={secret}" not in (hooks / name).read_text() for name in ("resume", "suspend", "epilog"))
    cluster = cloud.provider(cluster=TOKEN.cluster.name)
    call(hooks / "resume", "a-1")
    log = (cloud.state / "head" / "log" / "power.log").read_text()
    assert [each.name for each in cluster.running()] == ["a-1"], log
    call(hooks / "suspend", "a-1")
    assert cluster.running() == ()
