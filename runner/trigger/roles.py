"""A role on GitHub against the roles that may."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Role = Literal["none", "read", "triage", "write", "maintain", "admin"]

# From the least to the most, as GitHub orders them.
_LADDER: tuple[str, ...] = get_args(Role)


def allows(roles: Iterable[str], role: Role) -> bool:
    """Whether `role` is one of `roles`, or stands above the lowest of them.

    Nobody without a role may, whatever `roles` say; names that GitHub does not have let nobody in.
    """
    wanted = [_LADDER.index(name) for name in roles if name in _LADDER[1:]]
    return bool(wanted) and _LADDER.index(role) >= min(wanted)
