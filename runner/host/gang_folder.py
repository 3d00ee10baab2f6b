"""A Job -> the folder where this host and the processes of its node meet: scripts, host file, pipes of ranks."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.host.job import Job
    from runner.launch import Process

INSIDE = Path(__file__).with_name("inside")
HOST_FILE = "hosts"
OUTPUT, STATUS, RUN, RESTARTABLE = "output", "status", "run", "restartable"
NEW_CALLS = "new"


def make(job: Job) -> None:
    """Make the folder anew: what an earlier attempt left in it is gone."""
    folder = job.gang_folder
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("bin", "python", "ranks", "calls"):
        (folder / name).mkdir(parents=True)
    for script in INSIDE.glob("pushtrain-*"):
        shutil.copy(script, folder / "bin")
    for module in (INSIDE / "python").glob("*.py"):
        shutil.copy(module, folder / "python")
    os.mkfifo(folder / "calls" / NEW_CALLS)
    per_node = max(1, job.world_size // len(job.hostnames))
    lines = [f"{name} slots={per_node}\n" for name in job.hostnames]
    (folder / HOST_FILE).write_text("".join(lines))
    for process in job.processes:
        if process.kind != "launcher":
            _make_rank(job, process)


def _make_rank(job: Job, process: Process) -> None:
    place = job.gang_folder / "ranks" / str(process.rank)
    place.mkdir()
    if process.kind == "launched":
        for name in (OUTPUT, STATUS):
            os.mkfifo(place / name)
        (place / RUN).write_text(_script(job, process))
        if process.restartable:
            (place / RESTARTABLE).touch()


def _script(job: Job, process: Process) -> str:
    """What pushtrain-rank runs. Its launcher has the node's environment already; here is the rank's own.

    `env:` of train.yml may set anything, so its names are left alone.
    """
    work = str(job.work if job.image is None else WORK)
    outputs = {"PUSHTRAIN_OUTPUTS": f"{work}/{job.outputs}/rank-{process.rank}"} if job.per_rank else {}
    own = {name: value for name, value in {**process.env, **outputs}.items() if name not in job.env}
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in own.items()]
    return "".join([*exports, f"cd {shlex.quote(work)} || exit 126\n", f"exec {shlex.join(process.argv)}\n"])


WORK = Path("/workspace")
