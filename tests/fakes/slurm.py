"""What a cluster would say -> a Slurm that says it, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.errors import EngineError
from runner.slurm import Slurm


@dataclass(frozen=True, kw_only=True)
class Said(Slurm):
    """`queue` and `ended` are the jobs that squeue lists, by the names of its long fields.

    Every other command prints what `answers` has for its beginning, or is refused.
    """

    queue: Sequence[Mapping[str, str]] = ()
    ended: Sequence[Mapping[str, str]] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def run(self, *argv: str, **_: object) -> str:
        """As of `Slurm`."""
        line = " ".join(argv)
        self.asked.append(line)
        if "-O" in argv:
            return self._listed(argv)
        found = [said for begin, said in self.answers.items() if line.startswith(begin)]
        if not found:
            raise EngineError(f"{line}: refused", tip="sinfo -R")
        return found[0]

    def _listed(self, argv: Sequence[str]) -> str:
        known = self.ended if "--states=all" in argv else self.queue
        name = argv[argv.index("--name") + 1] if "--name" in argv else None
        wide = [each.split(":") for each in argv[argv.index("-O") + 1].split(",")]
        rows = [each for each in known if name in (None, each.get("Name"))]
        return "".join("".join(f"{row.get(key, ''):{room}}" for key, room in wide) + "\n" for row in rows)


def host(name: str, *, state: str = "IDLE", reason: str = "none") -> str:
    """What `scontrol show node --oneliner` prints of a host."""
    return f"NodeName={name} NodeAddr={name} CPUTot=8 CPUAlloc=0 RealMemory=9 State={state} Reason={reason}\n"
