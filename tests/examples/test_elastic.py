"""An elastic gang goes on when one of its nodes is lost, with the ranks that are left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engines.project import wait_for
from tests.examples.newcomer import PUSHTRAIN, pushtrain, shown

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TRAIN_YML = """\
name: elastic
environment: {base: "python:3.11-slim", pip: [torch==2.13.0, numpy==2.4.1]}
entrypoint: train.py
resources: {nodes: 2..3}
distribution: {type: torch, processes_per_node: 1}
outputs: {checkpoints: outputs/checkpoints}
timeout: {run: 10m, grace: 2s}
"""
TRAIN = """\
import os, time
from datetime import timedelta
from pathlib import Path
import torch, torch.distributed as dist

done = Path("outputs/checkpoints/step")
dist.init_process_group("gloo", timeout=timedelta(seconds=20))
start = torch.tensor([int(done.read_text()) if dist.get_rank() == 0 and done.exists() else 0])
dist.broadcast(start, 0)
print("world", dist.get_world_size(), "from step", int(start), flush=True)
for step in range(int(start) + 1, 31):
    time.sleep(0.3)
    dist.all_reduce(torch.ones(1))
    if dist.get_rank() == 0:
        done.parent.mkdir(exist_ok=True)
        done.write_text(str(step))
print("done by", dist.get_world_size(), flush=True)
dist.barrier()
os._exit(0)  # torch 2.13 may abort while Gloo's threads end
"""


def hosts(home: Path) -> dict[int, int]:
    """Host processes of this home by node."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "runner.host" in words and str(home) in " ".join(words):
            node = next(word for word in words if "/node-" in word).rpartition("node-")[2]
            found[int(node)] = int(entry.name)
    return found


def test_the_others_go_on_without_a_node_that_is_lost(tmp_path: Path, home: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "train.yml").write_text(TRAIN_YML)
    (repository / "train.py").write_text(TRAIN)
    named = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "elastic")):
        subprocess.run(["git", *named, *arguments], cwd=repository, check=True)
    run = lose_a_node(repository, home)
    log = pushtrain(home, "logs", "last")
    assert run["state"] == "succeeded", json.dumps(run, indent=1) + log
    assert log.count("done by 2") == 2
    assert len(re.findall("world 2 from step [1-9]", log)) >= 2
    assert "node 2 was lost; its ranks are missing from then on" in run["warnings"]


def lose_a_node(repository: Path, home: Path) -> dict[str, Any]:
    """A run that loses its node 2 in the middle, when it has ended."""
    environment = {**os.environ, "PUSHTRAIN_HOME": str(home)}
    subprocess.run([PUSHTRAIN, "run", repository, "--detach", "--fresh"], env=environment, check=True)

    def log() -> str:
        return pushtrain(home, "logs", "last")

    def started() -> bool:
        assert shown(home)["state"] != "failed", log()
        return log().count("world 3") == 3

    wait_for(started, what="three ranks", told=log, within_s=300)
    time.sleep(1.0)
    os.kill(hosts(home)[2], signal.SIGKILL)
    wait_for(lambda: shown(home)["state"] in ("succeeded", "failed"), what="the end", told=log, within_s=300)
    return shown(home)
