"""Hosts that are started when a job waits for them, and stopped when they are idle: Slurm, agents, a provider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.slurm import Node, Slurm, nodes
from tests.fleet import machines
from tests.fleet.machines import Machines
from tests.lab import Lab
from tests.lab.tools import missing

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing()), reason="needs what a lab needs"),
]

# Alone for so long is a machine that is slow to join on a busy computer.
IDLE_S, ALONE_S = 6, 30
ELASTIC = f"""
idle: {IDLE_S}s
start_within: 60s
stop_within: 4s
alone: {ALONE_S}s
again_after: 2s
attempts: 2
hosts:
  lab: {{gpu: "MODEL", gpus: 2, cpus: 2, memory: 4GiB, labels: {{pool: lab}}, max_hosts: 2}}
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A head that runs nothing itself, and two hosts that are off."""
    folder = tmp_path_factory.mktemp("power")
    bin = folder / "bin"
    bin.mkdir()
    hook = bin / "nvidia-container-runtime-hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    environ = {
        "PUSHTRAIN_GPU_DEVICES": "/dev/tty",
        "PUSHTRAIN_PASS": "FAKE_GPUS FAKE_GPU_HOST FAKE_GPU_STATE FAKE_GPU_MINORS",
    }
    lab = Lab.up(folder / "lab", hosts=1, later=2, gpus=2, slurm="none", environ=environ)
    try:
        lab = Lab.open(lab.folder)
        with machines.serving(lab) as made:
            made.path = bin
            elastic = lab.plan.share / "elastic.yml"
            elastic.write_text(made.settings(lab.plan.share) + ELASTIC.replace("MODEL", lab.plan.model))
            start = ("pushtrain", "agent", "start", "--head", "--no-work", "--elastic", str(elastic))
            lab.head.run(*start, environ={"PATH": made.search(lab.head)})
            yield made
    finally:
        lab.down()


def on_head(provider: Machines, *argv: str) -> str:
    return str(provider.lab.head.run(*argv, environ={"SLURM_CONF": "/run/pushtrain/slurm.conf"}).stdout)


def node(provider: Machines, name: str) -> Node:
    found = on_head(provider, "scontrol", "show", "node", "--all", "--detail", "--oneliner")

    class Said(Slurm):
        def run(self, *argv: str, **_: object) -> str:
            return found

    return next(each for each in nodes(Said()) if each.name == name)


def submit(provider: Machines, script: str, *, gpus: int = 2) -> Path:
    out = provider.lab.plan.share / f"out-{time.time_ns()}"
    gang = (
        f"--gres=gpu:{gpus}",
        "--constraint=pool_lab",
        f"--output={out}",
        f"--wrap={script}",
        "--chdir=/tmp",
    )
    on_head(provider, "sbatch", *gang)
    return out


@pytest.fixture(autouse=True)
def willing(provider: Machines) -> Iterator[None]:
    """What one test has the provider refuse, it does not refuse the next."""
    yield
    provider.refusal = ""


def reasons(provider: Machines) -> str:
    return "\n".join(f"{name}: {node(provider, name).reason}" for name in ("lab-1", "lab-2"))


def until(provider: Machines, what: str, found: Callable[[], bool], *, within_s: float = 180.0) -> None:
    # slurmctld looks every 30 s only whether the hosts of a job that had them started are there.
    deadline_s = time.monotonic() + within_s
    while not found():
        if time.monotonic() > deadline_s:
            told = on_head(provider, "sh", "-c", "scontrol show node --all --oneliner; squeue --long")
            asked = [each for each in provider.asked if each != "list "]
            pytest.fail(f"not within {within_s:g} s: {what}\n{told}\n{asked}")
        time.sleep(0.2)


def hosts_on(provider: Machines) -> list[str]:
    return [host.name for host in provider.lab.hosts]


def test_a_job_has_a_host_started_that_is_stopped_when_it_is_idle(provider: Machines) -> None:
    assert hosts_on(provider) == ["h0"]
    until(provider, "hosts that are off are known", lambda: "POWERED_DOWN" in node(provider, "lab-2").states)
    until(
        provider,
        "the queue is open",
        lambda: "down" not in on_head(provider, "sinfo", "--noheader", "--format=%a"),
    )
    on_head(
        provider, "scontrol", "reconfigure"
    )  # As the head itself does once, before or after it opens the queue.
    out = submit(provider, f"hostname; echo $CUDA_VISIBLE_DEVICES; sleep {ALONE_S}; echo done")
    until(provider, "it ran on a host that was started", lambda: out.exists() and "done\n" in out.read_text())
    assert out.read_text() in ("h1\n0,1\ndone\n", "h2\n0,1\ndone\n"), "heard of, it did not end itself"
    assert sum(each.startswith("start ") for each in provider.asked) == 1
    until(provider, "the host is off again", lambda: hosts_on(provider) == ["h0"])


def test_a_start_that_fails_is_told_and_tried_again(provider: Machines) -> None:
    provider.refusal = "there are no machines left"
    out = submit(provider, "hostname")
    told: list[str] = []

    def told_of_one() -> bool:
        told.append(reasons(provider))
        return "there are no machines left" in told[-1]

    until(provider, "the reason is told", told_of_one)
    assert "start 1 of 2 failed (next try " in told[-1]
    until(
        provider, "one is given up", lambda: "given up: pushtrain agent power retry lab-" in reasons(provider)
    )
    assert "start 2 of 2 failed" in reasons(provider)
    provider.refusal = ""
    assert "lab-" in on_head(provider, "pushtrain", "agent", "power", "retry")
    until(provider, "it starts after all", lambda: out.exists() and out.read_text() in ("h1\n", "h2\n"))
    started = f"lab-{out.read_text()[1]}"
    until(provider, "its failures are told no more", lambda: "failed" not in node(provider, started).reason)
    until(provider, "it is off again", lambda: hosts_on(provider) == ["h0"])


def test_a_machine_that_no_host_uses_is_stopped(provider: Machines) -> None:
    provider.lab.host("h2").boot()
    until(provider, "it is found and stopped", lambda: hosts_on(provider) == ["h0"])


def test_a_machine_that_is_lost_is_replaced(provider: Machines) -> None:
    out = submit(provider, "hostname; sleep 5; echo done")
    until(provider, "it runs", lambda: out.exists() and bool(out.read_text()))
    name = out.read_text().strip()
    provider.lab.host(name).off()
    until(provider, "it starts again on another machine", lambda: out.read_text().endswith("done\n"))


def test_a_machine_that_never_joins_ends_itself(provider: Machines) -> None:
    """Also without any agent; the provider is not asked."""
    host = provider.lab.host("h2")
    until(provider, "earlier ones are off", lambda: hosts_on(provider) == ["h0"])
    provider.lab.head.run("pushtrain", "agent", "stop")
    before = len(provider.asked)
    provider.lab.host("h2").boot()
    host.run("pushtrain", "agent", "power", "deadman", "lab-2", "--alone", "4s", "--off", "kill -TERM 1")
    host.run("pushtrain", "agent", "power", "deadman", "lab-2", "--alone", "4s", "--off", "kill -TERM 1")
    assert len(host.pids("/run/pushtrain/deadman")) == 1, "it is started once"
    until(provider, "it is off", lambda: hosts_on(provider) == ["h0"], within_s=30)
    assert provider.asked[before:] == []
