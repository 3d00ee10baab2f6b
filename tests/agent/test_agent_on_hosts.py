"""Agents on hosts of the lab: a fleet begins, hosts join, break, come back and leave."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.lab.host import GPU_STATE, Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

CONF = {"SLURM_CONF": "/run/pushtrain/slurm.conf"}
PASS = {"PUSHTRAIN_PASS": "FAKE_GPUS FAKE_GPU_STATE FAKE_GPU_MINORS FAKE_GPU_HOST"}


class Fleet:
    """A head h0; others join by the copy of its token."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.head, self.member, self.client = (lab.host(f"h{number}") for number in range(3))
        self.token = folder / "pushtrain.token"
        self.agent(self.head, "start", "--head", "--label", "pool=lab")
        self.copy_token()

    def agent(
        self, host: Host, *words: str, fails: bool = False, environ: Mapping[str, str] | None = None
    ) -> str:
        told = {**PASS, **(environ or {})}
        done = host.run("pushtrain", "agent", *words, environ=told, check=not fails, timeout_s=120)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def copy_token(self) -> None:
        shutil.copy(self.head.path("/var/lib/pushtrain/token"), self.token)
        self.token.chmod(0o600)

    def join(self, host: Host, *words: str, fails: bool = False) -> str:
        return self.agent(host, "start", "--join", "h0", "--token-file", str(self.token), *words, fails=fails)

    def states(self) -> dict[str, str]:
        said = self.head.run("sinfo", "-hN", "-p", "p50", "-o", "%N %T", environ=CONF, check=False).stdout
        return dict(line.split() for line in said.splitlines() if line)

    def gres(self, name: str) -> str:
        return self.head.run("sinfo", "-hN", "-n", name, "-p", "p50", "-o", "%G", environ=CONF).stdout.strip()

    def until(self, true: Callable[[], bool], *, within_s: float = 60) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline_s, self.states()
            time.sleep(0.1)

    def until_idle(self, *names: str, within_s: float = 90) -> None:
        self.until(lambda: self.states() == dict.fromkeys(names, "idle"), within_s=within_s)

    def daemon(self, host: Host, name: str) -> int | None:
        noted = json.loads(host.path("/run/pushtrain/daemons.json").read_text())
        return noted[name]["process"] and int(noted[name]["process"]["pid"])

    def is_another(self, host: Host, name: str, before: int | None) -> bool:
        return self.daemon(host, name) not in (None, before)


@pytest.fixture
def fleet(bare_lab: Lab, tmp_path: Path) -> Fleet:
    return Fleet(bare_lab, tmp_path)


def test_a_fleet_begins_and_hosts_join_it_with_all_their_gpus(fleet: Fleet) -> None:
    said = fleet.agent(fleet.head, "token")
    assert "pushtrain agent start --join" in said
    assert "/var/lib/pushtrain/token" in said
    assert "pushtrain1." not in said
    fleet.join(fleet.member, "--label", "pool=other")
    fleet.join(fleet.client, "--client")
    fleet.until_idle("h0", "h1")
    ran = fleet.client.run(
        "srun", "-N2", "--gres=gpu:2", "sh", "-c", "uname -n; echo $CUDA_VISIBLE_DEVICES", environ=CONF
    )
    assert sorted(ran.stdout.split()) == ["0,1", "0,1", "h0", "h1"]
    assert fleet.client.pids("slurmd") == []
    ran = fleet.client.run("srun", "-C", "pool_other", "uname", "-n", environ=CONF)
    assert ran.stdout.split() == ["h1"]
    for host in (fleet.head, fleet.member, fleet.client):
        fleet.agent(host, "status")
    assert "an agent runs on this machine already" in fleet.agent(fleet.member, "start", fails=True)


def test_a_host_joins_while_somebody_computes_on_it_and_is_offered_when_they_have_ended(fleet: Fleet) -> None:
    fleet.member.spawn("sleep", "601", log="stranger.log")
    found = ("pgrep", "-f", "^sleep 601")
    fleet.until(lambda: fleet.member.run(*found, check=False).stdout != "")
    pid = fleet.member.run(*found).stdout.strip()
    state, gpu = fleet.member.path(GPU_STATE), "GPU-fake-h1-0"
    state.write_text(json.dumps({gpu: {"processes": {pid: 1024}}}))
    fleet.join(fleet.member)
    fleet.until(lambda: fleet.states().get("h1") == "drained")
    assert f"process {pid} (sleep) of root on {gpu}" in fleet.agent(fleet.member, "status")
    fleet.member.run("kill", pid)
    state.write_text("{}")
    fleet.member.run("/run/pushtrain/health", environ={"SLURMD_NODENAME": "h1"})
    fleet.until_idle("h0", "h1")


def test_who_may_not_join_is_told_why_and_what_to_do(fleet: Fleet) -> None:
    fleet.token.chmod(0o644)
    assert "chmod 600" in fleet.join(fleet.member, fails=True)
    fleet.token.chmod(0o600)
    whole = fleet.token.read_text()
    fleet.token.write_text(whole[:-40])
    assert "damaged token" in fleet.join(fleet.member, fails=True)
    fleet.token.write_text(changed(whole, pushtrain="9.9"))
    assert "check out Pushtrain 9.9" in fleet.join(fleet.member, fails=True)
    fleet.token.write_text(changed(whole, slurm="23.11.4"))
    assert "the head has 23.11.4" in fleet.join(fleet.member, fails=True)
    fleet.token.write_text(whole)
    assert "give this one another name" in fleet.join(fleet.member, "--name", "h0", fails=True)
    assert fleet.member.pids("munged") == []


def test_a_host_that_comes_back_with_another_version_takes_part_and_is_told_how_to_cure_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.join(fleet.member)
    fleet.agent(fleet.member, "stop")
    said = fleet.agent(fleet.member, "start", environ=upgraded(tmp_path, "99.9"))
    cure = f"check out Pushtrain {version('pushtrain')} in its clone"
    assert "warning: this machine has Pushtrain 99.9 while the head has" in said
    assert cure in said
    log = fleet.member.path("/var/lib/pushtrain/log/agent.log")
    fleet.until(lambda: "this host has Pushtrain 99.9 while the head has" in log.read_text())
    fleet.until(
        lambda: cure in fleet.head.run("pushtrain", "runners", "--json", environ=CONF).stdout, within_s=90
    )
    assert fleet.head.run("srun", "-w", "h1", "hostname", environ=CONF).stdout == "h1\n", "it is not left out"

    fleet.agent(fleet.member, "stop")
    assert "warning" not in fleet.agent(fleet.member, "start")
    fleet.until(
        lambda: cure not in fleet.head.run("pushtrain", "runners", "--json", environ=CONF).stdout, within_s=90
    )


def test_hosts_that_run_while_the_head_is_upgraded_are_told(fleet: Fleet, tmp_path: Path) -> None:
    fleet.join(fleet.member)
    fleet.until_idle("h0", "h1")
    fleet.agent(fleet.head, "stop")
    fleet.agent(fleet.head, "start", environ=upgraded(tmp_path, "99.9"))
    log = fleet.member.path("/var/lib/pushtrain/log/agent.log")
    fleet.until(lambda: "while the head has 99.9; here" in log.read_text(), within_s=120)
    assert "check out Pushtrain 99.9" in fleet.agent(fleet.member, "status", fails=True)


def upgraded(place: Path, to: str) -> dict[str, str]:
    """The environment of an agent for which another version of Pushtrain is installed."""
    installed = place / "packages" / f"pushtrain-{to}.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pushtrain\nVersion: {to}\n")
    return {"PYTHONPATH": f"{installed.parent}:{Path(__file__).parents[1] / 'fakes'}"}


def test_a_token_of_another_fleet_is_refused_by_the_head(fleet: Fleet) -> None:
    fleet.token.write_text(changed(fleet.token.read_text(), key="A" * 172))
    said = fleet.join(fleet.member, fails=True)
    assert "refuses this host's token" in said
    assert "pushtrain agent token" in said


def changed(line: str, **fields: str) -> str:
    import base64

    body = line.strip().partition(".")[2]
    told = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return "pushtrain1." + base64.urlsafe_b64encode(json.dumps(told | fields).encode()).decode().rstrip("=")


def test_each_daemon_that_is_killed_is_there_again_at_once_and_a_job_goes_on(fleet: Fleet) -> None:
    fleet.join(fleet.member)
    script = "#!/bin/sh\nsleep 25\n"
    fleet.head.run("sbatch", "-w", "h1", "-o", "/dev/null", environ=CONF, given=script)
    fleet.until(lambda: fleet.states().get("h1") == "mixed")
    # Some seconds later Slurm has written down that it runs; killed before, it would hold the job.
    began_s, saved = time.time(), fleet.head.path("/var/lib/pushtrain/slurmctld/job_state")
    fleet.until(lambda: saved.exists() and saved.stat().st_mtime > began_s + 1)
    for host, name in [(fleet.member, "munged"), (fleet.member, "slurmd"), (fleet.head, "slurmctld")]:
        before = fleet.daemon(host, name)
        host.run("kill", "-9", str(before))
        fleet.until(partial(fleet.is_another, host, name, before), within_s=2)
    fleet.until_idle("h0", "h1")
    said = fleet.head.run("scontrol", "show", "job", "1", environ=CONF).stdout
    assert "JobState=COMPLETED" in said
    assert "Restarts=0" in said


def test_an_agent_that_is_killed_leaves_daemons_that_the_next_takes_over(fleet: Fleet) -> None:
    names = ("munged", "slurmctld", "slurmd")
    before = [fleet.daemon(fleet.head, name) for name in names]
    fleet.head.run("sh", "-c", "kill -9 $(cat /run/pushtrain/agent.pid)")
    assert "does not run" in fleet.agent(fleet.head, "status", fails=True)
    fleet.agent(fleet.head, "start")
    assert [fleet.daemon(fleet.head, name) for name in names] == before
    fleet.agent(fleet.head, "stop")
    assert [fleet.head.pids(name) for name in names] == [[], [], []]


def test_hosts_come_back_after_a_reboot_of_the_head_or_themselves_with_no_argument(fleet: Fleet) -> None:
    fleet.join(fleet.member, "--label", "pool=other")
    fleet.until_idle("h0", "h1")
    for host in (fleet.head, fleet.member):
        host.off()
        fleet.lab.boot(host.name)
        told = host.run("pushtrain", "runners", check=False).stderr
        assert "was not started since it booted" in told
        fleet.agent(host, "start")
        fleet.until_idle("h0", "h1")
    said = fleet.head.run("sinfo", "-hN", "-p", "p50", "-o", "%N %f %G", environ=CONF).stdout
    assert "h1 pushtrain,pool_other,gpu__tesla_v100_sxm2_16gb gpu:tesla_v100_sxm2_16gb:2" in said


def test_a_head_that_lost_its_state_gets_its_hosts_back(fleet: Fleet) -> None:
    fleet.join(fleet.member)
    fleet.agent(fleet.head, "stop")
    fleet.head.run("rm", "-r", "/var/lib/pushtrain/slurmctld")
    fleet.agent(fleet.head, "start")
    fleet.until_idle("h0", "h1", within_s=120)


def test_a_host_that_was_cut_off_comes_back_by_itself(fleet: Fleet) -> None:
    fleet.join(fleet.member)
    fleet.member.cut()
    fleet.until(lambda: fleet.states()["h1"] in ("down", "down*"))
    fleet.member.mend()
    fleet.until_idle("h0", "h1")


def test_a_host_that_joins_while_the_head_is_away_is_there_when_it_comes(fleet: Fleet) -> None:
    fleet.join(fleet.member)
    fleet.agent(fleet.head, "stop")
    fleet.agent(fleet.member, "stop")
    fewer = {"FAKE_GPUS": "Tesla V100-SXM2-16GB:1"}
    assert "the agent runs, and asks on" in fleet.agent(fleet.member, "start", environ=fewer)
    assert "would begin another fleet" in fleet.agent(fleet.member, "start", "--head", fails=True)
    fleet.join(fleet.client, fails=True)
    assert not fleet.client.path("/var/lib/pushtrain").exists()
    fleet.until(lambda: fleet.member.pids("slurmd") != [])
    fleet.agent(fleet.head, "start")
    # What it has lost meanwhile is no reason to refuse it.
    fleet.until(lambda: fleet.gres("h1") == "gpu:tesla_v100_sxm2_16gb:1", within_s=90)
    fleet.until_idle("h0", "h1")


def test_a_host_is_drained_resumed_and_leaves(fleet: Fleet) -> None:
    fleet.join(fleet.member)
    fleet.agent(fleet.head, "drain", "h1", "--reason", "a fan is loud")
    assert fleet.states()["h1"] == "drained"
    assert "a fan is loud" in fleet.agent(fleet.member, "status")
    fleet.agent(fleet.member, "resume")
    fleet.until_idle("h0", "h1")
    fleet.agent(fleet.member, "leave")
    assert fleet.states() == {"h0": "idle"}
    assert fleet.member.pids("munged") == []
    assert "in no fleet" in fleet.agent(fleet.member, "start", fails=True)
    assert "cannot leave" in fleet.agent(fleet.head, "leave", fails=True)
    assert "no agent was started" in fleet.agent(fleet.member, "status", fails=True)
    fleet.join(fleet.member)
    fleet.until_idle("h0", "h1")
    assert "on h1: sudo pushtrain agent leave" in fleet.agent(fleet.head, "leave", "h1", fails=True)
    fleet.agent(fleet.member, "stop")
    assert "the agent of this host does not run" in fleet.agent(fleet.member, "drain", fails=True)
    fleet.until(lambda: fleet.states()["h1"].endswith("*"))
    fleet.agent(fleet.head, "leave", "h1")
    assert fleet.states() == {"h0": "idle"}
