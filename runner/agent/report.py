"""agent.json, the daemons and the head's view -> the lines of `pushtrain agent status`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent import daemons, inventory, lasting, membership, processes, queued, skew
from runner.errors import EngineError
from runner.lock import is_held
from runner.quantities import format_size
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.agent.layout import About
    from runner.agent.settings import State
    from runner.slurm import Slurm


def rows(about: About, state: State, *, slurm: Slurm) -> Iterator[tuple[str, bool]]:
    """Each line, and whether what it says is as it should be."""
    yield f"host      {about.name} ({about.address}), {about.role} of the fleet {about.cluster}", True
    yield (
        f"head      {about.head} ({about.head_address}), Slurm {about.slurm}, Pushtrain {about.pushtrain}",
        True,
    )
    if said := skew.differs(about):
        yield f"versions  this host has {said}", False
    if said := skew.other_settings(about):
        yield f"settings  this host has {said}", False
    runs = is_held(run_folder() / "agent.lock")
    yield f"agent     {'runs' if runs else 'does not run: pushtrain agent start'}", runs
    for each in lasting.lately():
        at = time.strftime("%H:%M:%S", time.localtime(each.at_s))
        yield f"          {each.name}: failed at {at}, and was begun again: {each.why}", False
    yield from _daemons(about, state)
    yield _at_head(about, slurm)
    if about.works:
        gpus = (
            Counter(gpu.model for gpu in inventory.look(Path(state.folder)).gpus)
            if "Gres=" in about.host_conf
            else {}
        )
        told = ", ".join(f"{count} {model}" for model, count in gpus.items()) or "none"
        yield f"GPUs      {told}", True
    if said := queued.trouble():
        yield f"queue     not looked after: {said}", False
    for name, value in (("store", about.store), ("registry", about.registry), ("state", about.state)):
        if value:
            yield f"{name:<9} {value}", True


def _daemons(about: About, state: State) -> Iterator[tuple[str, bool]]:
    noted = processes.load(run_folder() / "daemons.json")
    for daemon in daemons.wanted(about, run=run_folder()):
        note = noted.get(daemon.name)
        if note and note.process and note.process.alive:
            since = int((time.time() - note.since_s) / 60)
            yield f"{daemon.name:<9} runs for {since} min, process {note.process.pid}", True
        else:
            yield f"{daemon.name:<9} does not run; {daemon.log(state.logs)}", False
            yield from (
                (f"          {line}", False)
                for line in processes.tail(daemon.log(state.logs), lines=3).splitlines()
            )


def _at_head(about: About, slurm: Slurm) -> tuple[str, bool]:
    try:
        if not about.works:
            slurm.run("scontrol", "show", "config", patience_s=0.0)
            return "cluster   the head answers", True
        found = membership.node(slurm, about.name)
    except EngineError as error:
        return f"cluster   {error}", False
    if found is None:
        return "cluster   the head does not know this host", False
    why = f": {found.reason}" if found.reason else ""
    memory = format_size(found.memory_bytes)
    told = f"cluster   {'+'.join(sorted(found.states)).lower()}{why}; {found.cpus} CPUs, {memory}"
    return told, found.takes_jobs or "DRAIN" in found.states
