"""`pushtrain quota`: how many GPUs at once and GPU-hours a repository may have of the fleet."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from runner.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from runner.slurm.quota import Quota


def quota(asked: argparse.Namespace) -> int:
    """Print all quotas, or set, change or remove that of a repository. Raises PlanError where Slurm keeps none."""
    from runner import slurm
    from runner.slurm import quota as quotas

    cluster = slurm.find()
    changes = asked.gpus is not None or asked.gpu_hours is not None or asked.user or asked.none
    if asked.repository is None:
        if changes:
            raise UsageError("whose quota?", tip="pushtrain quota OWNER/NAME --gpus 8 --gpu-hours 500")
        quotas.check(cluster)
        _print(quotas.quotas(cluster))
        return 0
    if asked.none:
        quotas.lift(cluster, asked.repository)
        print(f"{asked.repository} has no quota")
        return 0
    if changes:
        quotas.change(
            cluster,
            asked.repository,
            gpus=asked.gpus,
            gpu_hours=asked.gpu_hours,
            users=(*asked.user, getpass.getuser()),
        )
    quotas.check(cluster)
    _print(quotas.quotas(cluster, asked.repository))
    return 0


def _print(found: tuple[Quota, ...]) -> None:
    from rich.table import Table

    from runner.commands.shop import console

    if not found:
        print("no quota: pushtrain quota OWNER/NAME --gpus 8 --gpu-hours 500")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("repository", "GPUs at once", "GPU-hours", "users"):
        table.add_column(heading)
    for each in found:
        table.add_row(
            each.repository,
            f"{each.gpus_used} of {_limit(each.gpus)}",
            f"{each.gpu_hours_used:.1f} of {_limit(each.gpu_hours)}",
            ", ".join(each.users),
        )
    console().print(table)


def _limit(amount: float | None) -> str:
    return "any number" if amount is None else f"{amount:g}"
