"""Quotas of repositories, in text and on a Slurm with slurmdbd and MariaDB."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import cli
from runner.errors import NoCapacity, PlanError, Refused, UsageError
from runner.slurm import Slurm, jobs, quota
from tests.services.accounting import accounting_cluster, missing

pytestmark = pytest.mark.timeout(300)

SAID = """\
Current Association Manager state

Association Records

ClusterName=yard Account=root UserName= Partition= Priority=0 ID=1
    GrpTRES=cpu=N(1),gres/gpu=N(3)
    GrpTRESMins=cpu=N(0),gres/gpu=N(0)
ClusterName=yard Account=acme.vision UserName= Partition= Priority=0 ID=3
    GrpTRES=cpu=N(1),node=N(1),gres/gpu=4(3),gres/gpu:v100=2(1)
    GrpTRESMins=cpu=N(0),gres/gpu=600(90)
ClusterName=yard Account=acme.vision UserName=root(0) Partition= Priority=0 ID=4
    GrpTRES=cpu=N(1),gres/gpu=N(3)
    GrpTRESMins=cpu=N(0),gres/gpu=N(0)
ClusterName=yard Account=acme.a.b UserName= Partition= Priority=0 ID=5
    GrpTRES=cpu=N(0)
    GrpTRESMins=cpu=N(0)
"""
ENFORCED = {
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "AccountingStorageEnforce": "associations,limits",
    "AccountingStorageTRES": "cpu,mem,gres/gpu",
    "PriorityType": "priority/basic",
}


def test_two_repositories_never_share_an_account() -> None:
    names = {quota.account(each) for each in ("a-b/c", "a/b-c", "a/b.c", "a_b/c", "a/b_c")}
    assert len(names) == 5
    assert quota.account("Acme/Vision") == quota.account("acme/vision") == "acme.vision"


@pytest.mark.parametrize("text", ["acme", "acme/vision/x", "acme/vision GrpTRES=gres/gpu=9", "-i/x", ""])
def test_what_is_no_repository_becomes_no_account(text: str) -> None:
    with pytest.raises(UsageError):
        quota.account(text)


def test_limits_and_use_are_read_for_accounts_of_repositories_alone() -> None:
    ab, vision = quota.parsed(SAID)
    assert (ab.repository, ab.gpus, ab.gpu_hours, ab.users) == ("acme/a.b", None, None, ())
    assert (vision.gpus, vision.gpus_used, vision.gpu_hours, vision.gpu_hours_used) == (4, 3, 10.0, 1.5)
    assert vision.users == ("root",)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"AccountingStorageType": "accounting_storage/none"}, "this cluster has none"),
        ({"AccountingStorageEnforce": "associations"}, "AccountingStorageEnforce=associations"),
        ({"AccountingStorageTRES": "cpu,mem"}, "does not count GPUs"),
        ({}, "priority/multifactor alone"),
        (
            {"PriorityType": "priority/multifactor", "PriorityDecayHalfLife": "7-00:00:00"},
            "half of the hours that were used every 7-00:00:00",
        ),
    ],
)
def test_a_cluster_that_holds_nobody_to_a_quota_is_told_from_one_that_does(
    changed: dict[str, str], fault: str
) -> None:
    with pytest.raises(PlanError, match=fault) as caught:
        quota.check_settings({**ENFORCED, **changed}, hours=True)
    assert "slurm.conf" in caught.value.tip
    quota.check_settings(
        {**ENFORCED, "PriorityType": "priority/multifactor", "PriorityDecayHalfLife": "00:00:00"}, hours=True
    )


def test_where_the_agent_writes_slurm_conf_nobody_is_told_to_change_it(tmp_path: Path) -> None:
    (tmp_path / "agent.json").touch()
    with pytest.raises(PlanError) as caught:
        quota.check_settings({"SLURM_CONF": str(tmp_path / "slurm.conf")}, hours=False)
    assert "in slurm.conf:" not in caught.value.tip
    assert "a Slurm cluster of your own" in caught.value.tip


# On a real cluster


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    _needed()
    with accounting_cluster(tmp_path_factory.mktemp("accounting")) as conf:
        yield Slurm(conf=conf)


def _needed() -> None:
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    if there_is_no := missing():
        pytest.skip(f"not installed: {', '.join(there_is_no)}")


@pytest.fixture
def repository(slurm: Slurm, request: pytest.FixtureRequest) -> Iterator[str]:
    """One of its own for each test, whose jobs are ended afterwards."""
    yield f"acme/{request.node.name}"
    slurm.run("scancel", f"--account={quota.account(f'acme/{request.node.name}')}", "--state=PENDING")
    slurm.run("scancel", f"--account={quota.account(f'acme/{request.node.name}')}")


def submit(slurm: Slurm, repository: str, *, gpus: int, sleeps_s: int = 300) -> str:
    return batch(slurm, quota.admit(slurm, repository, gpus=gpus), gpus=gpus, sleeps_s=sleeps_s)


def batch(slurm: Slurm, account: str | None, *, gpus: int, sleeps_s: int = 300) -> str:
    return slurm.run(
        *("sbatch", "--parsable", "--output=/dev/null", f"--account={account}", f"--gres=gpu:{gpus}"),
        f"--wrap=sleep {sleeps_s}",
    ).strip()


@pytest.mark.fleet
def test_a_second_gang_over_the_quota_waits_until_the_first_has_ended(slurm: Slurm, repository: str) -> None:
    quota.change(slurm, repository, gpus=4, gpu_hours=None, users=("root",))
    first, second = submit(slurm, repository, gpus=3), submit(slurm, repository, gpus=3)
    _until(lambda: _state(slurm, first) == ("RUNNING", "None"))
    _until(lambda: _state(slurm, second) == ("PENDING", "AssocGrpGRES"))
    assert quota.quotas(slurm, repository)[0].gpus_used == 3
    slurm.run("scancel", first)
    _until(lambda: _state(slurm, second) == ("RUNNING", "None"))


@pytest.mark.fleet
def test_more_at_once_than_the_quota_is_refused_and_another_repository_is_not(
    slurm: Slurm, repository: str
) -> None:
    quota.change(slurm, repository, gpus=4, gpu_hours=None, users=("root",))
    with pytest.raises(NoCapacity, match=r"5 GPUs at once were asked for, and the quota of .* is 4"):
        quota.admit(slurm, repository, gpus=5)
    assert quota.admit(slurm, "acme/other", gpus=5) is None
    assert quota.admit(slurm, None, gpus=5) is None


@pytest.mark.fleet
def test_once_hours_are_used_up_what_waits_waits_on_and_the_next_is_refused(
    slurm: Slurm, repository: str
) -> None:
    quota.change(slurm, repository, gpus=8, gpu_hours=1 / 60, users=("root",))
    # Both at once: by the time of a second question the hours may be used up.
    account = quota.admit(slurm, repository, gpus=8)
    batch(slurm, account, gpus=8, sleeps_s=9)
    waits = batch(slurm, account, gpus=8)
    _until(lambda: _state(slurm, waits) == ("PENDING", "AssocGrpGRESMinutes"))
    assert quota.quotas(slurm, repository)[0].gpu_hours_used >= 1 / 60
    with pytest.raises(NoCapacity, match=r"the GPU-hours of acme/.* are used up") as caught:
        quota.admit(slurm, repository, gpus=1)
    assert "--gpu-hours" in caught.value.tip
    assert quota.admit(slurm, repository, gpus=0) == quota.account(repository)


@pytest.mark.fleet
def test_only_named_users_may_start_its_runs(slurm: Slurm, repository: str) -> None:
    quota.change(slurm, repository, gpus=4, gpu_hours=None, users=("nobody",))
    with pytest.raises(Refused, match="the user root may not"):
        quota.admit(slurm, repository, gpus=1)
    quota.change(slurm, repository, gpus=None, gpu_hours=None, users=("root", "nobody"))
    assert quota.admit(slurm, repository, gpus=1) == quota.account(repository)
    assert quota.quotas(slurm, repository)[0].gpus == 4


@pytest.mark.fleet
def test_the_command_sets_lists_and_takes_away(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    assert cli.main(["quota", "Ada/Digits", "--gpus", "2", "--gpu-hours", "500"]) == 0
    assert capsys.readouterr().out.split()[-8:] == ["ada/digits", "0", "of", "2", "0.0", "of", "500", "root"]
    assert cli.main(["quota", "Ada/Digits", "--none"]) == 0
    assert cli.main(["quota"]) == 0
    assert "ada/digits" not in capsys.readouterr().out.splitlines()[1:]


@pytest.mark.fleet
def test_a_cluster_without_accounts_refuses_a_quota_and_asks_for_none(tmp_path: Path) -> None:
    _needed()
    with accounting_cluster(tmp_path, accounts=False) as conf:
        plain = Slurm(conf=conf)
        assert quota.admit(plain, "acme/vision", gpus=8) is None
        with pytest.raises(PlanError, match=r"AccountingStorageType=accounting_storage/none"):
            quota.change(plain, "acme/vision", gpus=4, gpu_hours=None, users=())


def _state(slurm: Slurm, job: str) -> tuple[str, str]:
    return next(((each.state, each.reason) for each in jobs(slurm) if each.id == job), ("", ""))


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
