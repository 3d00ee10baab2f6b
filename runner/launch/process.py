"""One process of a gang: where it runs, what, what it is told, and who starts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Process:
    """A rank, or a launcher that starts ranks.

    `direct`: the host starts it. `launched`: a launcher (mpirun, torchrun) starts `pushtrain-rank` in its place, which
    runs `argv` with `env`; so `local_rank` must be the launcher's own. `launcher`: the host starts it; launchers are
    numbered after the ranks, from the world size on. `daemon`: never ends by itself (a parameter server); it is ended
    when the others are done. `restartable`: its launcher may start it again, so only the launcher's end is its end.
    `task` is what a framework calls the rank, such as `worker 1`.
    """

    rank: int
    local_rank: int
    node_rank: int
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["direct", "launched", "launcher"] = "direct"
    daemon: bool = False
    restartable: bool = False
    task: str = ""

    @property
    def awaited(self) -> bool:
        """Whether the attempt lasts until it ends."""
        return self.kind != "launcher" and not self.daemon
