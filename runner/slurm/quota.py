"""A repository -> its account in Slurm, and how many GPUs at once and GPU-hours that account may have."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import NoCapacity, PlanError, Refused, UsageError
from runner.slurm import trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.slurm.client import Slurm

# An owner on GitHub has no dot in its name, so that the first one parts it from the repository's.
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]*\.[a-z0-9._-]+", re.ASCII)
_GPU = re.compile(r"(?:^|,)gres/gpu=([^(,]*)\((\d+)\)")
# How scontrol writes a time of 0.
_NEVER = "00:00:00"
_SETTINGS = (
    "in slurm.conf: AccountingStorageType=accounting_storage/slurmdbd, AccountingStorageEnforce=limits and "
    "AccountingStorageTRES=gres/gpu; docs/operations.md, Quotas"
)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a repository may have: GPUs at once, and GPU-hours in all; None where there is no limit of that kind.

    `users` are those who may start its runs.
    """

    account: str
    gpus: int | None
    gpus_used: int
    gpu_hours: float | None
    gpu_hours_used: float
    users: tuple[str, ...] = ()

    @property
    def repository(self) -> str:
        """OWNER/NAME in small letters, as Slurm keeps it."""
        return self.account.replace(".", "/", 1)


def account(repository: str) -> str:
    """The name of the account of `OWNER/NAME`: two repositories never share one. Raises UsageError."""
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository!r} is no repository", tip="pushtrain quota OWNER/NAME --gpus 8")
    return repository.lower().replace("/", ".", 1)


def enforced(slurm: Slurm) -> bool:
    """Whether the cluster holds jobs to the limits of their accounts. Raises EngineError."""
    return _is_enforced(_settings(slurm))


def quotas(slurm: Slurm, repository: str | None = None) -> tuple[Quota, ...]:
    """All quotas with what is used of them now, or that of one repository; by name. Raises EngineError."""
    chosen = (f"accounts={account(repository)}",) if repository is not None else ()
    return parsed(slurm.run("scontrol", "show", "assoc_mgr", "flags=assoc", *chosen))


def admit(slurm: Slurm, repository: str | None, *, gpus: int) -> str | None:
    """The account that a job of the repository with so many GPUs at once is submitted under, None where none is needed.

    Raises NoCapacity where it would never start: more GPUs than the quota, or no hours left of it; Refused where this
    user may not start runs of the repository; EngineError as `Slurm.run`.
    """
    if repository is None or not enforced(slurm):
        return None
    found = [each for each in quotas(slurm, repository) if each.account == account(repository)]
    if not found:
        return None
    _check(found[0], repository, gpus=gpus, user=getpass.getuser())
    return found[0].account


def change(
    slurm: Slurm, repository: str, *, gpus: int | None, gpu_hours: float | None, users: Sequence[str]
) -> None:
    """Set limits, None leaves one as it is, and let these users start runs of the repository. Safe to repeat.

    Raises PlanError where Slurm holds nobody to a quota, EngineError where it refuses.
    """
    settings = _settings(slurm)
    check_settings(settings, hours=gpu_hours is not None)
    name, cluster = account(repository), f"cluster={settings['ClusterName']}"
    known = slurm.run(
        "sacctmgr", "-nP", "show", "assoc", "where", f"account={name}", cluster, "format=user"
    ).split("\n")
    if known == [""]:
        slurm.run("sacctmgr", "-i", "add", "account", name, cluster, f"description={repository}")
    limits = {"GrpTRES": gpus, "GrpTRESMins": None if gpu_hours is None else round(gpu_hours * 60)}
    new = [f"{key}=gres/gpu={amount}" for key, amount in limits.items() if amount is not None]
    if new:
        slurm.run("sacctmgr", "-i", "modify", "account", "where", f"name={name}", cluster, "set", *new)
    for user in dict.fromkeys(users):
        if user not in known:
            slurm.run("sacctmgr", "-i", "add", "user", user, f"account={name}", cluster)


def lift(slurm: Slurm, repository: str) -> None:
    """Remove the quota and what was counted for it. Raises EngineError while jobs of the repository run."""
    settings = _settings(slurm)
    check_settings(settings, hours=False)
    where = (f"name={account(repository)}", f"cluster={settings['ClusterName']}")
    slurm.run("sacctmgr", "-i", "delete", "account", "where", *where)


def check(slurm: Slurm) -> None:
    """Raise PlanError where the cluster would hold nobody to a quota, EngineError where it does not answer."""
    check_settings(_settings(slurm), hours=False)


def _what_to_set(settings: Mapping[str, str]) -> str:
    """An agent writes the slurm.conf of its fleet anew at each start."""
    if trouble.of_agent(Path(settings.get("SLURM_CONF", ""))):
        return (
            "a fleet that `pushtrain agent start` made has no quotas, its slurm.conf is the agent's; they need a Slurm "
            "cluster of your own with slurmdbd: docs/operations.md, Quotas"
        )
    return _SETTINGS


def check_settings(settings: Mapping[str, str], *, hours: bool) -> None:
    """Raise PlanError, with what to set, where the cluster would hold nobody to a quota."""
    kind = settings.get("AccountingStorageType", "(null)")
    if not _is_enforced(settings):
        enforce = settings.get("AccountingStorageEnforce", "none")
        raise PlanError(
            "quotas are kept by Slurm's accounting, slurmdbd, and this cluster has none that holds anybody to them: "
            f"AccountingStorageType={kind}, AccountingStorageEnforce={enforce}",
            tip=_what_to_set(settings),
        )
    if "gres/gpu" not in settings.get("AccountingStorageTRES", "").split(","):
        raise PlanError("this cluster's accounting does not count GPUs", tip=_what_to_set(settings))
    if hours and settings.get("PriorityType") != "priority/multifactor":
        raise PlanError(
            f"Slurm sums hours up with PriorityType=priority/multifactor alone, and this cluster has "
            f"{settings.get('PriorityType', 'none')}",
            tip="set it in slurm.conf, with all PriorityWeight… at 0 if nothing else is to change; or only --gpus",
        )
    half_life = settings.get("PriorityDecayHalfLife", _NEVER)
    if hours and half_life != _NEVER:
        raise PlanError(
            f"this cluster forgets half of the hours that were used every {half_life} (PriorityDecayHalfLife), so that "
            "they would be no limit in all",
            tip="in slurm.conf: PriorityDecayHalfLife=0, with PriorityUsageResetPeriod=NONE for hours in all, MONTHLY "
            "for those of a month; or only --gpus",
        )


def parsed(text: str) -> tuple[Quota, ...]:
    """What `scontrol show assoc_mgr flags=assoc` says of accounts of repositories: pure."""
    found: dict[str, Quota] = {}
    users: dict[str, list[str]] = {}
    for block in text.split("ClusterName=")[1:]:
        fields = dict(word.partition("=")[::2] for word in block.split())
        name, user = fields.get("Account", ""), fields.get("UserName", "")
        if not _ACCOUNT.fullmatch(name):
            continue
        if user:
            users.setdefault(name, []).append(user.partition("(")[0])
            continue
        gpus, minutes = _gpu(fields.get("GrpTRES", "")), _gpu(fields.get("GrpTRESMins", ""))
        found[name] = Quota(
            account=name,
            gpus=gpus[0],
            gpus_used=gpus[1],
            gpu_hours=None if minutes[0] is None else minutes[0] / 60,
            gpu_hours_used=minutes[1] / 60,
        )
    return tuple(
        Quota(**{**vars(found[name]), "users": tuple(sorted(users.get(name, ())))}) for name in sorted(found)
    )


def _check(quota: Quota, repository: str, *, gpus: int, user: str) -> None:
    if quota.gpus is not None and gpus > quota.gpus:
        raise NoCapacity(
            f"{gpus} GPUs at once were asked for, and the quota of {repository} is {quota.gpus}",
            tip=f"lower resources in train.yml, or on the head: pushtrain quota {repository} --gpus {gpus}",
        )
    if gpus and quota.gpu_hours is not None and quota.gpu_hours_used >= quota.gpu_hours:
        raise NoCapacity(
            f"the GPU-hours of {repository} are used up: {quota.gpu_hours_used:.1f} of {quota.gpu_hours:g}",
            tip=f"on the head: pushtrain quota {repository} --gpu-hours {2 * quota.gpu_hours:g}",
        )
    if user not in quota.users:
        raise Refused(
            f"the user {user} may not start runs of {repository}, which has a quota",
            tip=f"on the head: pushtrain quota {repository} --user {user}",
        )


def _settings(slurm: Slurm) -> dict[str, str]:
    lines = slurm.run("scontrol", "show", "config").splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def _is_enforced(settings: Mapping[str, str]) -> bool:
    return settings.get(
        "AccountingStorageType"
    ) == "accounting_storage/slurmdbd" and "limits" in settings.get("AccountingStorageEnforce", "").split(",")


def _gpu(text: str) -> tuple[int | None, int]:
    """`…,gres/gpu=4(3)` -> 4 and 3; N is no limit."""
    match = _GPU.search(text)
    if match is None:
        return None, 0
    return (int(match[1]) if match[1].isdigit() else None), int(match[2])
