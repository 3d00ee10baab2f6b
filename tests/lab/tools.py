"""This machine -> what it lacks for a lab."""

from __future__ import annotations

import os
import shutil

_TOOLS = (
    "dockerd", "docker", "docker-init", "docker-registry", "debootstrap", "ip", "iptables", "unshare", "nsenter",
    "setpriv", "mkfs.ext4", "fallocate", "munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol", "sinfo",
)  # fmt: skip


def missing() -> tuple[str, ...]:
    """Programs that a lab needs and this machine lacks; tests/services/packages installs them."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return tuple(tool for tool in _TOOLS if shutil.which(tool, path=path) is None)
