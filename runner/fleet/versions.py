"""The versions of a host and of its head -> what differs, with the command that cures it: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ONE = r"[A-Za-z0-9][A-Za-z0-9.+!~-]{0,63}"
_BOTH = re.compile(rf"({_ONE})/({_ONE})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What a machine has. `slurm` is empty where it is not known. As a text: `0.1.0/22.05.8`."""

    pushtrain: str
    slurm: str

    def __str__(self) -> str:
        return f"{self.pushtrain}/{self.slurm}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A program of which a host `has` another version than the head, which has `wanted`, and the command for that."""

    program: str
    has: str
    wanted: str
    cure: str


def read(text: object) -> Versions | None:
    """The reverse of `str`; None for anything else, since others said it."""
    found = _BOTH.fullmatch(text.strip()) if isinstance(text, str) else None
    return Versions(pushtrain=found[1], slurm=found[2] or "") if found else None


def differences(here: Versions, head: Versions) -> Iterator[Difference]:
    """What the host has to change: the head's versions are the fleet's. A patch of one release of Slurm is no other."""
    if here.slurm and head.slurm and release(here.slurm) != release(head.slurm):
        cure = f"sudo apt-get install 'slurmd={head.slurm}*', or run the agent's image of the head's version"
        yield Difference(program="Slurm", has=here.slurm, wanted=head.slurm, cure=cure)
    if here.pushtrain and head.pushtrain and here.pushtrain != head.pushtrain:
        cure = f"check out Pushtrain {head.pushtrain} in its clone (the head's commit), scripts/venv"
        yield Difference(program="Pushtrain", has=here.pushtrain, wanted=head.pushtrain, cure=cure)


def told(here: Versions, head: Versions, *, where: str) -> str:
    """In words, empty where all is well; `where` is where to type the cure, `here` or `there`."""
    found = tuple(differences(here, head))
    if not found:
        return ""
    has = ", ".join(f"{each.program} {each.has} while the head has {each.wanted}" for each in found)
    cures = "; ".join(each.cure for each in found)
    return f"{has}; {where}, when nothing runs: {cures}; pushtrain agent stop; pushtrain agent start"


def release(version: str) -> tuple[int, ...]:
    """The first two numbers, (22, 5) of 22.05.8."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
