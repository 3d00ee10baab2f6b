"""`pushtrain agent`: this machine joins a fleet, is looked at, drained, and leaves."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError, PushtrainError, UsageError

if TYPE_CHECKING:
    import argparse

    from runner.agent.layout import About
    from runner.agent.settings import State
    from runner.agent.wishes import HeadWish

_END_WITHIN_S = 90.0
JOINS_OWN = ("token_file", "client")
HEADS_OWN = ("no_work", "cluster", "store", "registry", "elastic", "serve_registry")
EITHERS = ("name", "address", "label", "no_gpus", "cpus", "memory", "cache_quota")


def start(asked: argparse.Namespace) -> int:
    """Make this machine the head, a host or a client of a fleet; without arguments, what it was before."""
    from runner.agent import begin

    os.umask(0o022)  # Root's files for others to read, none to write; also of the daemons.
    state = _state(asked)
    former = state.knows
    about = _begin(asked, state)
    if asked.foreground:
        os.environ["PYTHONSAFEPATH"] = "1"
        command = begin.argv(state)
        os.execv(command[0], command)  # noqa: S606  # no shell
    started = begin.detached(state)
    try:
        there = begin.wait(about, started, tell=_tell, former=former and about.role != "head")
    except PushtrainError:
        # What does not work is not left running: the next start begins anew.
        started.process.terminate()
        started.process.wait()
        if not former and about.role != "head":
            _forget(state)
        raise
    if there:
        _tell_started(about, state)
    else:
        print(
            f"warning: the head {about.head} does not answer at {about.head_address}; the agent runs, and asks on"
        )
        print("it takes part as soon as the head is back; here: pushtrain agent status, or agent stop")
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _forget(state: State) -> None:
    """Leave nothing of a fleet of which this machine is not."""
    from runner.agent import layout, login
    from runner.slurm.client import run_folder

    state.forget()
    login.forget(run_folder())
    layout.forget()


def _begin(asked: argparse.Namespace, state: State) -> About:
    from runner.agent import begin, wishes

    _check_role(asked)
    if asked.head:
        return begin.head(_head_wish(asked), state)
    if asked.join is not None:
        wish = wishes.Wish(**_wish(asked))
        return begin.member(
            wish, state, head=asked.join, given=asked.token_file, client=asked.client, tell=_tell
        )
    return begin.again(state)


def _check_role(asked: argparse.Namespace) -> None:
    """Refuse what does not go together, instead of leaving some of it out."""
    if asked.head and asked.join is not None:
        raise UsageError("--head --join: a machine is the head or joins one", tip="leave out one of the two")
    if asked.head or asked.join is None:
        _refuse(asked, JOINS_OWN, "only with --join HEAD", "pushtrain agent start --join HEAD --token-file F")
    if not asked.head:
        _refuse(asked, HEADS_OWN, "only with --head", "leave it out; or: pushtrain agent start --head …")
    if not asked.head and asked.join is None:
        why = "a start without --head or --join is as the last time"
        _refuse(
            asked, EITHERS, why, "leave it out; or say all again, with --head, or --join HEAD and its token"
        )
    if asked.join == "" or (asked.join is not None and asked.token_file is None):
        raise UsageError(
            "to join, a host needs the head's name and token",
            tip=f"pushtrain agent start --join {asked.join or 'HEAD'} --token-file F",
        )
    if asked.serve_registry and asked.registry is not None:
        raise UsageError(
            "--registry --serve-registry: a fleet has one registry", tip="leave out one of the two"
        )


def _refuse(asked: argparse.Namespace, names: tuple[str, ...], why: str, tip: str) -> None:
    # By identity: a --cpus 0 equals False.
    given = [
        name
        for name in names
        if all(getattr(asked, name) is not each for each in (None, False)) and getattr(asked, name) != []
    ]
    if given:
        raise UsageError(f"{' '.join('--' + name.replace('_', '-') for name in given)}: {why}", tip=tip)


def _head_wish(asked: argparse.Namespace) -> HeadWish:
    from runner.agent import wishes

    return wishes.HeadWish(
        **_wish(asked),
        cluster=asked.cluster if asked.cluster is not None else "pushtrain",
        store=asked.store if asked.store is not None else os.environ.get("PUSHTRAIN_STORE") or None,
        registry=_registry(asked),
        serves_registry=asked.serve_registry,
        elastic=asked.elastic,
    )


def _registry(asked: argparse.Namespace) -> str | None:
    if asked.serve_registry or asked.registry is not None:
        given: str | None = asked.registry
        return given
    return os.environ.get("PUSHTRAIN_REGISTRY") or None


def _wish(asked: argparse.Namespace) -> dict[str, Any]:
    from runner.commands.shop import home

    return {
        "address": asked.address,
        "name": asked.name,
        "labels": _labels(asked.label),
        "gpus": not asked.no_gpus,
        "works": not asked.no_work,
        "cpus": asked.cpus,
        "memory_bytes": None if asked.memory is None else _size(asked.memory),
        "cache_quota": _quota("50%" if asked.cache_quota is None else asked.cache_quota),
        "home": str(home()),
    }


def _labels(given: list[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for name, value in map(_label, given):
        if labels.get(name, value) != value:
            raise UsageError(
                f"--label {name}={labels[name]} --label {name}={value}: a host has one value of a label",
                tip="leave out one of the two",
            )
        labels[name] = value
    return labels


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(
            f"--label {text}: expected NAME=VALUE", tip="pushtrain agent start … --label pool=lab"
        )
    return name, value


def _quota(text: str) -> str:
    from runner.agent.caches import quota_bytes

    quota_bytes(text, 1)  # Raises where it is none.
    return text


def _size(text: str) -> int:
    from runner import quantities

    try:
        return quantities.size(text)
    except ValueError as error:
        raise UsageError(
            f"--memory: {error}", tip="pushtrain agent start … --memory 64GiB, or without it"
        ) from error


def _tell_started(about: About, state: State) -> None:
    from runner.agent import skew
    from runner.agent.token import metrics_token

    if said := skew.look(about, token=metrics_token(state.key.read_bytes())):
        print(f"warning: this machine has {said}")
    if about.role == "client":
        print(f"this machine submits to the fleet {about.cluster}: pushtrain run --engine slurm")
        return
    took_part = " and takes runs" if about.works else ""
    print(f"{about.name} ({about.address}) is {_ROLE[about.role]} of the fleet {about.cluster}{took_part}")
    if about.role == "head":
        if about.store is not None:
            print(f"all its hosts keep runs and models at {about.store}, which could be opened from here")
        _tell_token(about, state)


_ROLE = {"head": "the head", "member": "a host", "client": "a client"}


def _tell_token(about: About, state: State) -> None:
    address = about.head_address
    print(
        f"another machine joins with its token, {state.token} here; whoever has it is of the fleet. There, as root:"
    )
    print(f"  scp root@{address}:{state.token} pushtrain.token && chmod 600 pushtrain.token")
    print(f"  pushtrain agent start --join {address} --token-file pushtrain.token")


def token(asked: argparse.Namespace) -> int:
    """Say again where the token lies and how another machine joins."""
    from runner.agent import layout

    state, about = _state(asked), layout.about()
    if about.role != "head":
        raise UsageError(
            f"tokens are given by the head, {about.head}", tip=f"on {about.head}: pushtrain agent token"
        )
    _tell_token(about, state)
    return 0


def stop(_asked: argparse.Namespace) -> int:
    """End the agent and its daemons; what runs on this host goes on until Slurm misses the host."""
    if _end(signal.SIGTERM):
        print("the agent and its daemons have ended; pushtrain agent start brings them back")
    elif left := _orphans():
        print(f"no agent was running; its daemons have ended: {', '.join(left)}")
    else:
        print("no agent was running")
    return 0


def _orphans() -> list[str]:
    """End the daemons that an agent left which was killed."""
    from runner.agent import processes
    from runner.slurm.client import run_folder

    noted = processes.load(run_folder() / "daemons.json")
    left = [(name, note.process) for name, note in noted.items() if note.process and note.process.alive]
    for _, process in reversed(left):
        processes.end(process, grace_s=10.0)
    return [name for name, _ in left]


def _end(number: signal.Signals) -> bool:
    """Send the agent a signal and wait for its end; False where none runs."""
    from runner.agent.processes import Process, started_ticks
    from runner.lock import is_held
    from runner.slurm.client import run_folder

    if not is_held(run_folder() / "agent.lock"):
        return False
    pid = int((run_folder() / "agent.pid").read_text())
    agent = Process(pid=pid, started_ticks=started_ticks(pid) or 0)
    agent.signal(number)
    deadline_s = time.monotonic() + _END_WITHIN_S
    while agent.alive:
        if time.monotonic() > deadline_s:
            raise EngineError(f"the agent (process {pid}) does not end", tip="pushtrain agent status")
        time.sleep(0.05)
    return True


def status(asked: argparse.Namespace) -> int:
    """Print what this host is, what the head thinks of it, and its daemons; 0 if all is well, 1 if not."""
    from runner.agent import layout, membership
    from runner.agent.report import rows

    state, about = _state(asked), layout.about()
    well = True
    for line, good in rows(about, state, slurm=membership.cluster()):
        print(line)
        well = well and good
    return 0 if well else 1


def leave(asked: argparse.Namespace) -> int:
    """Take this host out of its fleet, after the runs on it have ended, or --now; or another one that is gone."""
    from runner.agent import layout

    state, about = _state(asked), layout.about()
    if asked.host is not None and (asked.host != about.name or not about.works):
        from runner.commands import hosts

        return hosts.remove(asked, about)
    if about.role == "head":
        raise UsageError(
            "the head cannot leave its fleet: all other hosts are lost without it", tip="pushtrain agent stop"
        )
    if about.works:
        _clear(about.name, now=asked.now)
    if not _end(signal.SIGUSR1):
        raise EngineError("no agent runs here", tip="pushtrain agent start, then pushtrain agent leave")
    _forget(state)
    print(
        f"{about.name} has left the fleet {about.cluster}; if there is a unit: systemctl disable pushtrain-agent"
    )
    return 0


def _clear(name: str, *, now: bool) -> None:
    """Drain a host and wait until nothing runs there. Raises EngineError."""
    from runner.agent import membership
    from runner.slurm.waiting import LEAVES_NOW

    membership.drain(name, reason=LEAVES_NOW if now else "leaves the fleet")
    try:
        if jobs := membership.jobs_on(name):
            doing = "ending" if now else "waiting for"
            print(f"{name} takes no more runs; {doing} {', '.join(jobs)}", flush=True)
            membership.send_away(name) if now else membership.wait_for_jobs(name)
    except (KeyboardInterrupt, EngineError):
        undone = "has not left the fleet, and takes no more runs; to undo that: pushtrain agent resume"
        print(f"{name} {undone}", file=sys.stderr, flush=True)
        raise


def install(asked: argparse.Namespace) -> int:
    """Write a systemd unit that starts the agent with the machine, or print it."""
    from runner.agent import unit

    state = _state(asked)
    text = unit.text(state, settings=state.load())
    if asked.print:
        print(text, end="")
        return 0
    path = unit.write(text)
    print(f"{path} is written; now type:")
    print("  pushtrain agent stop; systemctl daemon-reload && systemctl enable --now pushtrain-agent")
    return 0


def _state(asked: argparse.Namespace) -> State:
    from runner.agent import layout, settings

    if getattr(asked, "state", None) is not None:
        return settings.State(folder=Path(asked.state).absolute())
    try:
        return settings.State(folder=Path(layout.about().state))
    except EngineError:
        return settings.State(folder=settings.STATE)
