"""`pushtrain runners`, `queue` and `top` on three hosts: of a plain Slurm cluster, and of a fleet of agents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import Lab
from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

NOBODY = ("setpriv", "--reuid", "65534", "--clear-groups")


def told(host: Host, *command: str) -> Any:
    return json.loads(host.run("pushtrain", *command, "--json").stdout)


def submit(host: Host, name: str, *options: str, conf: str = "") -> None:
    environ = {"SLURM_CONF": conf} if conf else {}
    batch = ("sbatch", "-o", "/dev/null", "-J", name, "--comment", f"pushtrain {name} acme/digits")
    host.run(*batch, "-c1", "-t10", *options, "--wrap", "sleep 600", environ=environ)


def until(found: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def test_on_a_plain_cluster_all_that_slurm_knows_is_told(lab: Lab) -> None:
    head, other = lab.host("h0"), lab.host("h1")
    submit(head, "small", "-N2", "--gpus-per-node=1")
    submit(head, "evil\n\x1b[31mJobId=1", "-N1", "--gpus=1")
    until(lambda: sum(host["gpus_free"] for host in told(other, "runners")) == 3)
    submit(head, "gang", "-N3", "--gpus-per-node=2")
    until(lambda: bool(told(other, "queue")))

    hosts = {host["name"]: host for host in told(other, "runners")}
    assert set(hosts) == {"h0", "h1", "h2"}
    assert sum("small" in host["runs"] for host in hosts.values()) == 2
    assert {host["agent"] for host in hosts.values()} == {""}
    [waiting] = told(other, "queue")
    assert (waiting["position"], waiting["run"]) == (1, "gang")
    assert waiting["wants"] == "3 hosts with 2 GPUs each"
    assert "small" in waiting["behind"]
    assert "h0" in other.run("pushtrain", "top", "--once").stdout

    head.run("scontrol", "update", "nodename=h2", "state=drain", "reason=a fan is broken")
    drained = next(host for host in told(other, "runners") if host["name"] == "h2")
    assert "a fan is broken" in drained["state"]
    assert not drained["well"]
    assert "a fan is broken" in told(other, "queue")[0]["why"]


def test_in_a_fleet_agents_tell_of_their_gpus_and_who_has_them(bare_lab: Lab) -> None:
    head, other = bare_lab.host("h0"), bare_lab.host("h1")
    head.run("pushtrain", "agent", "start", "--head", "--label", "pool=lab", timeout_s=60)
    token = bare_lab.folder / "share" / "see.token"
    head.run("install", "-m", "600", "/var/lib/pushtrain/token", str(token))
    try:
        for name in ("h1", "h2"):
            joins = ("--join", "h0", "--token-file", str(token))
            bare_lab.host(name).run("pushtrain", "agent", "start", *joins, timeout_s=60)
        until(lambda: all(host["agent"] for host in told(other, "runners")))
        hosts = told(other, "runners")
        assert [host["labels"] for host in hosts] == [["pool: lab"], [], []]
        assert {host["gpus"] for host in hosts} == {"2 x Tesla V100-SXM2-16GB (16 GiB)"}

        submit(head, "wide", "-N3", "--gpus-per-node=1", conf="/run/pushtrain/slurm.conf")
        until(lambda: all(host["runs"] == ["wide"] for host in told(other, "runners")))
        shown = other.run("pushtrain", "top", "--once").stdout
        assert shown.count("wide") == 3
        assert "6 GPUs" in shown

        bare_lab.host("h2").cut()
        began_s = time.monotonic()
        shown = head.run("pushtrain", "top", "--once").stdout
        assert time.monotonic() - began_s < 8
        assert "h2" in shown
        assert "1 host not seen" in shown
        bare_lab.host("h2").mend()

        assert "only root" in other.run(*NOBODY, "pushtrain", "runners").stdout
    finally:
        token.unlink(missing_ok=True)
        for name in ("h2", "h1", "h0"):
            bare_lab.host(name).run("pushtrain", "agent", "leave", "--now", check=False, timeout_s=60)
