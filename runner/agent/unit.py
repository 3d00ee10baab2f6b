"""Settings of a host -> the systemd unit that starts its agent with the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.agent.settings import Settings, State

PATH = Path("/etc/systemd/system/pushtrain-agent.service")
# As sd_booted(3) has it.
RUNS = Path("/run/systemd/system")


def text(state: State, *, settings: Settings) -> str:
    """The unit. A stop or an upgrade of it leaves runs alone: Slurm's processes are not ended with the agent's."""
    return f"""\
[Unit]
Description=Pushtrain agent ({settings.role})
Documentation=https://slurm.schedmd.com/
Wants=network-online.target
After=network-online.target docker.service

[Service]
Environment={_escaped(f"PUSHTRAIN_HOME={settings.home}")}
EnvironmentFile=-/etc/pushtrain/environment
ExecStart={_escaped(sys.executable)} -m runner.cli agent start --foreground --state {_escaped(str(state.folder))}
Environment=PYTHONSAFEPATH=1
KillMode=process
Restart=on-failure
RestartSec=5
Delegate=yes
LimitNOFILE=1048576
LimitMEMLOCK=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def write(text: str, *, path: Path = PATH, runs: Path = RUNS) -> Path:
    """Write it where systemd looks. Raises UsageError, also where systemd does not run (`runs`). Safe to repeat."""
    if not runs.exists():
        raise UsageError(
            f"systemd does not run here ({runs} is missing), so that nothing would start {path.name}",
            tip="have what starts this machine type: pushtrain agent start; or see it: pushtrain agent install --print",
        )
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}",
            tip="run it with sudo, or: pushtrain agent install --print",
        ) from None
    return path


def _escaped(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
