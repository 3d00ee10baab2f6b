"""The endpoints of the stand-in; importing this declares them all."""

from tests.services.github.endpoints import (
    accounts,
    actions,
    checks,
    commits,
    contents,
    issues,
    pulls,
    refs,
    releases,
)

__all__ = ["accounts", "actions", "checks", "commits", "contents", "issues", "pulls", "refs", "releases"]
