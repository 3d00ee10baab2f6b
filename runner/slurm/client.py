"""One command of Slurm -> what it printed; that it does not answer, or refuses, as an EngineError."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import EngineError
from runner.inherit import inherited
from runner.slurm import trouble

logger = logging.getLogger(__name__)

# Where an agent keeps what lasts until the machine goes down: slurm.conf, munge's socket, agent.json. In memory.
RUN_FOLDER = Path("/run/pushtrain")
PATIENCE_S = 30.0
COMMAND_WITHIN_S = 60.0
_PAUSE_S = 1.0
# What the commands say while slurmctld is away, as when the head boots; src/common/slurm_errno.c of Slurm 22.05.
_AWAY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted or received",
    "slurm_load",
    "Slurm backup controller in standby mode",
    "Resource temporarily unavailable",
    "Slurm temporarily unable to accept job",
)


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """A cluster as its commands see it; `conf` is its slurm.conf, None where the commands find theirs themselves.

    `patience_s` is for how long a command is run again while slurmctld is away, unless it is told otherwise.
    """

    conf: Path | None = None
    patience_s: float = PATIENCE_S

    def run(
        self,
        *argv: str,
        given: str = "",
        environ: Mapping[str, str] | None = None,
        patience_s: float | None = None,
        folder: Path | None = None,
    ) -> str:
        """Run a command of Slurm and return what it printed; for `patience_s` again while slurmctld is away.

        Bytes that are no UTF-8 are surrogates in it, as `legible` undoes.

        Raises EngineError with what it said. Only what may be done twice may be run with patience: `sbatch` is told
        that slurmctld is away before it took anything.
        """
        deadline_s = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        while True:
            # Without munge each command of Slurm would try for seconds.
            if (stopped := trouble.stopped(self.conf)) is not None:
                raise stopped
            done = self._once(argv, given=given, environ=environ, folder=folder)
            if done.returncode == 0:
                return done.stdout
            said = done.stderr.strip() or done.stdout.strip()
            if (stopped := trouble.stopped(self.conf, said)) is not None:
                raise stopped
            if not any(word in said for word in _AWAY) or time.monotonic() > deadline_s:
                raise trouble.explained(argv[0], _last(said), conf=self.conf)
            logger.info("%s: %s; asking again", argv[0], _last(said))
            time.sleep(_PAUSE_S)

    def environ(self) -> dict[str, str]:
        """The variables by which Slurm's commands find this cluster."""
        return {"SLURM_CONF": str(self.conf)} if self.conf is not None else {}

    def _once(
        self,
        argv: tuple[str, ...],
        *,
        given: str,
        environ: Mapping[str, str] | None,
        folder: Path | None,
    ) -> subprocess.CompletedProcess[str]:
        # Debian keeps scontrol where daemons are; times are read as UTC.
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        try:
            return subprocess.run(
                argv,
                input=given,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=COMMAND_WITHIN_S,
                # No command of Slurm's has to carry the token of a job or of the fleet.
                env={
                    **inherited(os.environ if environ is None else environ, secrets=environ or ()),
                    **self.environ(),
                    "PATH": path,
                    "TZ": "UTC",
                },
                cwd=folder,
                check=False,
            )
        except FileNotFoundError:
            raise EngineError(f"there is no command {argv[0]}", tip=_INSTALL) from None
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 1, "", "Socket timed out")


_INSTALL = (
    "install Slurm's commands (apt install slurm-client), or `pushtrain agent start --client --join HEAD "
    "--token-file FILE` on this machine"
)


def find() -> Slurm:
    """This machine's cluster: SLURM_CONF, else the agent's, else what Slurm's commands find. Raises EngineError."""
    if shutil.which("sbatch") is None and not Path("/usr/bin/sbatch").exists():
        raise EngineError("the engine slurm needs Slurm's commands, and there is no sbatch", tip=_INSTALL)
    if "SLURM_CONF" in os.environ:
        return Slurm(conf=Path(os.environ["SLURM_CONF"]))
    ours = run_folder() / "slurm.conf"
    return Slurm(conf=ours if ours.exists() else None)


def run_folder() -> Path:
    """Where the agent of this machine keeps what lasts until it goes down: PUSHTRAIN_RUN, else /run/pushtrain."""
    return Path(os.environ.get("PUSHTRAIN_RUN") or RUN_FOLDER)


def legible(text: str) -> str:
    """`text` with U+FFFD where a byte was no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _last(said: str) -> str:
    lines = [line for line in legible(said).splitlines() if line.strip()]
    return "; ".join(lines[-3:]) or "it failed and said nothing"
