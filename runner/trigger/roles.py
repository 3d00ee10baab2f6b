"""A role on GitHub against the roles that may."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Role = Literal["none", "read", "triage", "write", "maintain", "admin"]


def allows(roles: Iterable[str], role: Role) -> bool:
    """Whether `role` is one of `roles`, or stands above the lowest of them."""
    raise NotImplementedError
