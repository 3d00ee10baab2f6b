"""The endpoints of the stand-in; importing this declares them all."""

from tests.services.github.endpoints import (
    accounts,
    actions,
    checks,
    commits,
    contents,
    graphql,
    issues,
    pulls,
    refs,
    releases,
    rules,
)

__all__ = [
    "accounts",
    "actions",
    "checks",
    "commits",
    "contents",
    "graphql",
    "issues",
    "pulls",
    "refs",
    "releases",
    "rules",
]
