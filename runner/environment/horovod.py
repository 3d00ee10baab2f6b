"""Requirement lines -> the same without Horovod, and the Horovod that is to be built for their TensorFlow. Pure."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.environment import requirements
from runner.environment.combinations import HOROVOD, RECOMMENDED, TENSORFLOWS, canonical, exact
from runner.errors import PlanError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from runner.environment.requirements import Requirements

SCRIPT = Path(__file__).with_name("horovod-wheel")
_EXTRAS = frozenset({"tensorflow", "tensorflow-cpu", "keras"})
_TORCH_TIP = (
    "distribution: {type: torch} shares gradients by PyTorch itself; take horovod out of environment.pip"
)


@dataclass(frozen=True, kw_only=True)
class Horovod:
    """A Horovod to be built: its version, the TensorFlow that it is for (`tensorflow-cpu==2.15.1`), the wheel's key."""

    version: str
    tensorflow: str
    wheel: str = ""


def take_out(found: Requirements, *, python: str) -> tuple[Requirements, Horovod | None]:
    """`found` without its lines of Horovod, and what they ask for; None where they ask for none.

    Raises PlanError, with the line, for what cannot be built.
    """
    everything = tuple(requirements.packages(found.lines, python=python))
    asked = [(line, each) for line, each in everything if canonical(each.name) == "horovod"]
    if not asked:
        return found, None
    places = {origin.line: origin.where for origin in found.origins}
    for line, each in asked:
        _check_line(each, f"{places.get(line, 'environment.pip')}: {line}")
    line = f"{places.get(asked[0][0], 'environment.pip')}: {asked[0][0]}"
    _check_limits(found, line, python=python)
    lines = {line for line, _ in asked}
    rest = replace(found, lines=tuple(line for line in found.lines if line not in lines))
    return rest, Horovod(version=HOROVOD, tensorflow=_tensorflow(found, line, python=python))


def wheel_key(horovod: Horovod, **facts: object) -> str:
    """32 hex digits of all that decides the wheel: versions, the script that builds it, and `facts` of the place."""
    content = {
        "horovod": horovod.version,
        "tensorflow": horovod.tensorflow,
        "script": hashlib.sha256(SCRIPT.read_bytes()).hexdigest(),
        **facts,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def for_machine(
    horovod: Horovod, *, python: str, system: str, mpi: str, addresses: Sequence[str] = ()
) -> Horovod:
    """`horovod` with the key of its wheel for this machine: Python x.y, platform, major of Open MPI, C library.

    `addresses` are the option lines that say where packages are found: what is built comes from there.
    """
    libc = " ".join(platform.libc_ver())
    key = wheel_key(horovod, python=python, platform=system, mpi=mpi, libc=libc, **_found_at(addresses))
    return replace(horovod, wheel=key)


def for_image(
    horovod: Horovod, *, system: str, base: str, dockerfile: str, addresses: Sequence[str] = ()
) -> Horovod:
    """`horovod` with the key of its wheel for images of one base; `dockerfile` is how the wheel is built there."""
    key = wheel_key(horovod, platform=system, base=base, dockerfile=dockerfile, **_found_at(addresses))
    return replace(horovod, wheel=key)


def _found_at(addresses: Sequence[str]) -> dict[str, list[str]]:
    """Nothing where packages come from the usual index, so that wheels that were kept for it stay good."""
    return {"addresses": list(addresses)} if addresses else {}


def _check_line(asked: Requirement, line: str) -> None:
    if asked.url is not None:
        raise PlanError(
            f"{line}: Horovod is built from its release, not from an address", tip=f"horovod=={HOROVOD}"
        )
    if not asked.specifier.contains(HOROVOD):
        raise PlanError(
            f"{line}: only Horovod {HOROVOD} is known to build and to share gradients",
            tip=f"horovod=={HOROVOD}",
        )
    if others := sorted({canonical(extra) for extra in asked.extras} - _EXTRAS):
        tip = (
            _TORCH_TIP
            if {"torch", "pytorch"} & set(others)
            else "name what it needs as packages of their own"
        )
        raise PlanError(
            f"{line}: Horovod is built for TensorFlow alone, without {', '.join(others)}", tip=tip
        )


def _check_limits(found: Requirements, line: str, *, python: str) -> None:
    for limit, each in requirements.packages(found.constraints, python=python):
        if canonical(each.name) == "horovod" and not each.specifier.contains(HOROVOD):
            raise PlanError(
                f"{line}: the constraint {limit} rules out Horovod {HOROVOD}, the only one that is known to build",
                tip=f"horovod=={HOROVOD}",
            )


def _tensorflow(found: Requirements, line: str, *, python: str) -> str:
    """The exact TensorFlow of the lines, as a requirement of its own."""
    named = [each for _, each in requirements.packages(found.lines, python=python)]
    wanted = [each for each in named if canonical(each.name) in TENSORFLOWS]
    if not wanted:
        raise _without_tensorflow(named, line)
    pins = _pins(found, {canonical(each.name): exact(each.specifier) for each in wanted}, python=python)
    pinned = next((f"{name}=={version}" for name, version in pins.items() if version), None)
    if pinned is None or len(set(pins.values())) > 1:
        raise PlanError(
            f"{line}: Horovod is built for one exact TensorFlow, and {' and '.join(map(str, wanted))} "
            "leaves its version open",
            tip=f"{RECOMMENDED} in environment.pip",
        )
    return pinned


def _without_tensorflow(named: list[Requirement], line: str) -> PlanError:
    if any(canonical(each.name) == "torch" for each in named):
        return PlanError(
            f"{line}: Horovod is built for TensorFlow alone, and there is only torch", tip=_TORCH_TIP
        )
    return PlanError(
        f"{line}: Horovod is built for one exact TensorFlow, and environment.pip names none",
        tip=f"add {RECOMMENDED}",
    )


def _pins(found: Requirements, pins: Mapping[str, str | None], *, python: str) -> Mapping[str, str | None]:
    """`pins`, those that are open closed by a constraint."""
    limits = {
        canonical(each.name): exact(each.specifier)
        for _, each in requirements.packages(found.constraints, python=python)
    }
    return {name: version or limits.get(name) for name, version in pins.items()}
