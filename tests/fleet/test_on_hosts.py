"""`pushtrain runners`, `queue` and `top` on three hosts: of a plain Slurm cluster, and of a fleet of agents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tests.lab import Lab
from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(400)]

Said = TypeVar("Said")
NOBODY = ("setpriv", "--reuid", "65534", "--clear-groups")


def told(host: Host, *command: str) -> Any:
    return json.loads(host.run("pushtrain", *command, "--json").stdout)


def top(host: Host) -> str:
    return host.run("pushtrain", "top", "--once").stdout


def submit(host: Host, name: str, *options: str, conf: str = "") -> None:
    environ = {"SLURM_CONF": conf} if conf else {}
    batch = ("sbatch", "-o", "/dev/null", "-J", name, "--comment", f"pushtrain {name} acme/digits")
    host.run(*batch, "-c1", "-t10", *options, "--wrap", "sleep 600", environ=environ)


def until(said: Callable[[], Said], holds: Callable[[Said], bool]) -> Said:
    """What is said as soon as it holds: agents tell it in turns, and on a busy machine one may be late."""
    deadline_s = time.monotonic() + 120
    while not holds(found := said()):
        assert time.monotonic() < deadline_s, found
        time.sleep(0.2)
    return found


def test_on_a_plain_cluster_all_that_slurm_knows_is_told(lab: Lab) -> None:
    head, other = lab.host("h0"), lab.host("h1")
    submit(head, "small", "-N2", "--gpus-per-node=1")
    submit(head, "evil\n\x1b[31mJobId=1", "-N1", "--gpus=1")
    seen = until(lambda: told(other, "runners"), lambda all_: sum(host["gpus_free"] for host in all_) == 3)
    submit(head, "gang", "-N3", "--gpus-per-node=2")

    hosts = {host["name"]: host for host in seen}
    assert set(hosts) == {"h0", "h1", "h2"}
    assert sum("small" in host["runs"] for host in hosts.values()) == 2
    assert {host["agent"] for host in hosts.values()} == {""}
    [waiting] = until(
        lambda: told(other, "queue"), lambda queue: [j for j in queue if "small" in j["behind"]] != []
    )
    assert (waiting["position"], waiting["run"]) == (1, "gang")
    assert waiting["wants"] == "3 hosts with 2 GPUs each"
    assert "h0" in other.run("pushtrain", "top", "--once").stdout

    head.run("scontrol", "update", "nodename=h2", "state=drain", "reason=a fan is broken")
    drained = next(host for host in told(other, "runners") if host["name"] == "h2")
    assert "a fan is broken" in drained["state"]
    assert not drained["well"]
    until(lambda: told(other, "queue")[0]["why"], lambda why: "a fan is broken" in why)


def test_in_a_fleet_agents_tell_of_their_gpus_and_who_has_them(bare_lab: Lab) -> None:
    head, other = bare_lab.host("h0"), bare_lab.host("h1")
    head.run("pushtrain", "agent", "start", "--head", "--label", "pool=lab")
    token = bare_lab.folder / "share" / "see.token"
    head.run("install", "-m", "600", "/var/lib/pushtrain/token", str(token))
    try:
        for name in ("h1", "h2"):
            joins = ("--join", "h0", "--token-file", str(token))
            bare_lab.host(name).run("pushtrain", "agent", "start", *joins)
        hosts = until(lambda: told(other, "runners"), lambda seen: [h for h in seen if not h["agent"]] == [])
        assert [host["labels"] for host in hosts] == [["pool: lab"], [], []]
        assert {host["gpus"] for host in hosts} == {"2 x Tesla V100-SXM2-16GB (16 GiB)"}

        submit(head, "wide", "-N3", "--gpus-per-node=1", conf="/run/pushtrain/slurm.conf")
        until(lambda: told(other, "runners"), lambda seen: all(host["runs"] == ["wide"] for host in seen))
        until(lambda: top(other), lambda shown: shown.count("wide") == 3 and "6 GPUs" in shown)

        bare_lab.host("h2").cut()
        until(lambda: top(head), lambda shown: "h2" in shown and "1 host not seen" in shown)
        bare_lab.host("h2").mend()

        assert "only root" in other.run(*NOBODY, "pushtrain", "runners").stdout
    finally:
        token.unlink(missing_ok=True)
        for name in ("h2", "h1", "h0"):
            bare_lab.host(name).run("pushtrain", "agent", "leave", "--now", check=False)
