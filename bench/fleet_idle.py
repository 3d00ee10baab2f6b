"""What an agent on a host with nothing to do costs, beside a host with slurmd and munged alone, in the same minute.

Memory is told twice. PSS shares out what is mapped by several processes of this machine, so Python's code among all
that run Python here; RssAnon is what a process has for itself, without code and files. Processor time has that of
children which ended meanwhile, such as the health check that slurmd runs. Docker is not counted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.pairs import load
from bench.scale import until
from tests.lab import Lab
from tests.lab.host import Host

SETTLED_S = 10.0
PASS = {"PUSHTRAIN_PASS": "FAKE_GPUS FAKE_GPU_STATE FAKE_GPU_MINORS FAKE_GPU_HOST"}
FIRST = ("docker-init", "sleep")
NOT_OURS = ("dockerd", "containerd")


@dataclass(frozen=True, kw_only=True)
class Use:
    """Of all that runs on a host, but for Docker: processor seconds so far, MiB of both kinds, and the programs."""

    cpu_s: float
    pss_mib: float
    anon_mib: float
    programs: tuple[str, ...]

    @classmethod
    def of(cls, host: Host) -> Use:
        found = [each for each in _processes(host) if _command(each) not in NOT_OURS]
        own = [each for each in found if _command(each) not in FIRST]
        return cls(
            cpu_s=sum(map(_cpu_s, found)),  # What nobody waited for is counted with the host's first process.
            pss_mib=sum(_kib(each / "smaps_rollup", "Pss:") for each in own) / 1024,
            anon_mib=sum(_kib(each / "status", "RssAnon:") for each in own) / 1024,
            programs=tuple(sorted(map(_command, own))),
        )


def bench_idle(folder: Path, *, seconds: float) -> None:
    """Print it for a member and for a head."""
    with ExitStack() as stack:
        plain = Lab.up(folder / "plain", hosts=2, docker=False)
        stack.callback(plain.down)
        bare = Lab.up(folder / "bare", hosts=2, slurm="none")
        stack.callback(bare.down)
        _start_agents(bare, folder)
        plain.ready()
        time.sleep(SETTLED_S)
        measured = {"a member": (bare.host("h1"), plain.host("h1")), "the head": (bare.head, plain.head)}
        hosts = [host for pair in measured.values() for host in pair]
        began_s, before = time.monotonic(), [Use.of(host) for host in hosts]
        time.sleep(seconds)
        took_s, after = time.monotonic() - began_s, [Use.of(host) for host in hosts]
    parts = [(b.cpu_s - a.cpu_s) / took_s * 100 for a, b in zip(before, after, strict=True)]
    for number, name in enumerate(measured):
        ours, theirs = after[2 * number], after[2 * number + 1]
        print(
            f"idle, {name}, over {took_s:.0f} s, agent against Slurm and munge alone: "
            f"PSS {ours.pss_mib:.1f} against {theirs.pss_mib:.1f} MiB, {ours.pss_mib - theirs.pss_mib:+.1f}; "
            f"RssAnon {ours.anon_mib:.1f} against {theirs.anon_mib:.1f} MiB, {ours.anon_mib - theirs.anon_mib:+.1f}; "
            f"CPU {parts[2 * number]:.2f} against {parts[2 * number + 1]:.2f} % of a core, "
            f"{parts[2 * number] - parts[2 * number + 1]:+.2f} (wanted at most +60 MB, +0.5 %; {load()})\n"
            f"  {', '.join(ours.programs)} against {', '.join(theirs.programs)}",
            flush=True,
        )


def _start_agents(lab: Lab, folder: Path) -> None:
    head, member = lab.head, lab.host("h1")
    head.run("pushtrain", "agent", "start", "--head", environ=PASS, timeout_s=120)
    token = folder / "pushtrain.token"
    shutil.copy(head.path("/var/lib/pushtrain/token"), token)
    token.chmod(0o600)
    words = ("pushtrain", "agent", "start", "--join", "h0", "--token-file", str(token))
    member.run(*words, environ=PASS, timeout_s=120)
    conf = {"SLURM_CONF": "/run/pushtrain/slurm.conf"}

    def idle() -> bool:
        said = head.run("sinfo", "-hN", "-p", "p50", "-o", "%T", environ=conf, check=False)
        return said.stdout.split() == ["idle", "idle"]

    until(idle, "both hosts idle")


def _processes(host: Host) -> Iterator[Path]:
    """Those of its PID namespace."""
    assert host.process is not None
    space = Path(f"/proc/{host.process.pid}/ns/pid").readlink()
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if (each / "ns" / "pid").readlink() == space:
                yield each
        except OSError:  # It has ended.
            continue


def _command(process: Path) -> str:
    return _text(process / "comm").strip()


def _cpu_s(process: Path) -> float:
    fields = _text(process / "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _kib(file: Path, name: str) -> int:
    return sum(int(line.split()[1]) for line in _text(file).splitlines() if line.startswith(name))


def _text(file: Path) -> str:
    """Empty where the process has ended."""
    try:
        return file.read_text()
    except OSError:
        return ""
