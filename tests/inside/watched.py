"""A training as the host starts its ranks -> what was seen from inside. The folder of the gang is made by hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agreement import Agreement, Divergence, Report, report
from runner.writers import written

if TYPE_CHECKING:
    from collections.abc import Mapping

INSIDE = Path(__file__).parents[2] / "runner" / "host" / "inside" / "python"
TRAININGS = Path(__file__).parent / "trainings"
FLAGS = "-mca btl_vader_single_copy_mechanism none -mca mpi_yield_when_idle 1"
MPIRUN = f"mpirun --allow-run-as-root --oversubscribe {FLAGS}"
OF_THE_RANK = "PUSHTRAIN_RANK=$OMPI_COMM_WORLD_RANK RANK=$OMPI_COMM_WORLD_RANK exec"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Output of all ranks, and what each of them wrote into its folder."""

    output: str
    reports: Mapping[int, tuple[Report, ...]]
    written: Mapping[int, tuple[str, ...]]

    def divergence(self) -> Divergence | None:
        """The first, where the reports of the ranks come in turns."""
        agreement = Agreement(len(self.reports))
        turns = max(len(reports) for reports in self.reports.values())
        for turn in range(turns):
            for rank, reports in self.reports.items():
                found = agreement.add(rank, reports[turn]) if turn < len(reports) else None
                if found is not None:
                    return found
        return None


def train(
    python: Path, script: Path, folder: Path, *, env: Mapping[str, str] | None = None, mpi: bool = False
) -> Seen:
    """Run the script as two ranks until both end. Raises AssertionError with the output if one fails."""
    gang = folder / "gang"
    for rank in range(2):
        (gang / "ranks" / str(rank)).mkdir(parents=True)
    for name in ("outputs", "logs"):
        (folder / name).mkdir()
    every = {**os.environ, **_variables(folder, gang), **(env or {})}
    every.pop("PYTHONDONTWRITEBYTECODE", None)
    output = _by_mpirun(python, script, every) if mpi else _by_hand(python, script, every)
    return Seen(
        output=output,
        reports={rank: _reports(gang / "ranks" / str(rank) / "weights") for rank in range(2)},
        written={rank: written(_lines(gang / "ranks" / str(rank) / "written")) for rank in range(2)},
    )


def _variables(folder: Path, gang: Path) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {
        "PYTHONPATH": str(INSIDE),
        "PUSHTRAIN_GANG": str(gang),
        "PUSHTRAIN_WORLD_SIZE": "2",
        "PUSHTRAIN_DIVERGENCE": "fail",
        "PUSHTRAIN_OUTPUTS": str(folder / "outputs"),
        "PUSHTRAIN_LOGS": str(folder / "logs"),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def _by_hand(python: Path, script: Path, env: Mapping[str, str]) -> str:
    ranks = [
        subprocess.Popen(
            [python, script],
            env={**env, "PUSHTRAIN_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    assert all(map(_ended_well, ranks, outputs)), "\n".join(outputs)
    return "\n".join(outputs)


def _ended_well(rank: subprocess.Popen[str], output: str) -> bool:
    """torch 2.13 sometimes aborts when Python is long over, because a thread of Gloo still holds tensors."""
    aborted = rank.returncode == -signal.SIGABRT and "terminate called without an active exception" in output
    return rank.returncode == 0 or aborted


def _by_mpirun(python: Path, script: Path, env: Mapping[str, str]) -> str:
    command = [
        *MPIRUN.split(),
        "-np",
        "2",
        "sh",
        "-c",
        f'{OF_THE_RANK} "$@"',
        "rank",
        str(python),
        str(script),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text().splitlines()) if path.exists() else ()


def _reports(path: Path) -> tuple[Report, ...]:
    found = [report(line) for line in _lines(path)]
    assert None not in found, "a line of `weights` is no report"
    return tuple(each for each in found if each is not None)
