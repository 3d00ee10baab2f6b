"""This repository's own workflow, as it is, on a machine with nothing but Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.act import ROOT, Act
from tests.services.dockerd import DockerEngine
from tests.services.events import Webhooks

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

CI = ROOT / ".github" / "workflows" / "ci.yml"
# In the place of .ci/run, which would run this test.
TELLS = """\
set -eu
. /etc/os-release
echo "checks on $ID $VERSION_ID as $(id -un), with $(git --version | cut -d' ' -f1-2) and $(python3 --version)"
python3 -c 'import ensurepip'
unshare --net true && echo "with the right to start a Docker of its own"
exit ${CODE:-0}
"""


@pytest.mark.parametrize(("code", "result"), [("0", "success"), ("3", "failure")])
def test_it_checks_a_commit_on_debian_as_root(
    act: Act,
    docker_engine: DockerEngine,
    base_image: str,
    node_modules: Path,
    tmp_path: Path,
    code: str,
    result: str,
) -> None:
    docker_engine.docker("tag", base_image, "debian:12")
    workflow = tmp_path / "ci.yml"
    workflow.write_text(CI.read_text().replace("--privileged", _most_that_this_machine_can_give()))
    done = act(
        workflow,
        Webhooks(node_modules=node_modules).push("d6fde92930d4715a2b49857d24b940956b26d2d3"),
        token="none",
        home=tmp_path,
        env={"CODE": code},
        docker=docker_engine,
        files={".ci/run": TELLS},
        timeout_s=300,
    )
    assert "checks on debian 12 as root, with git version and Python 3.11" in done.log, done
    assert "with the right to start a Docker of its own" in done.log
    assert done.jobs == {"test": result}


def _most_that_this_machine_can_give() -> str:
    """All of it, unless these tests run in a container themselves, with less than that."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text().splitlines()
    held = int(next(line for line in status if line.startswith("CapEff")).split()[1], 16)
    every = (1 << last + 1) - 1
    return "--privileged" if held == every else "--cap-add SYS_ADMIN --cap-add NET_ADMIN"
