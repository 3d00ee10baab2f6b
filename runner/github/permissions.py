"""Each feature on GitHub -> the permission it needs, and what is lost without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """`permission` as in `permissions:` of a workflow; `lost` is what does not happen without it, as a clause."""

    name: str
    permission: str
    lost: str


ROLES = Feature(
    name="roles",
    permission="metadata: read",
    lost="nobody's permission can be asked for, so that no comment starts anything",
)
CONTENTS = Feature(
    name="contents",
    permission="contents: read",
    lost="train.yml of the base branch cannot be read, so that nothing starts",
)
PULLS = Feature(
    name="pull requests",
    permission="pull-requests: read",
    lost="the commit of a pull request cannot be pinned, so that no comment starts anything",
)
ACTIVITY = Feature(
    name="records of pushes",
    permission="contents: read",
    lost="every comment has to name the commit",
)
CHECKS = Feature(
    name="checks",
    permission="checks: write",
    lost="a commit shows no check with progress, metrics, faults on their lines and buttons",
)
COMMENTS = Feature(
    name="comments",
    permission="pull-requests: write",
    lost="a pull request gets no report and no answer to a command",
)
REACTIONS = Feature(
    name="reactions",
    permission="issues: write",
    lost="a command is not marked as seen, done or failed",
)
TAGS = Feature(
    name="tags",
    permission="contents: write",
    lost="models get no version and no stage on GitHub",
)
RELEASES = Feature(
    name="releases",
    permission="contents: write",
    lost="models are not released on GitHub",
)
SIGNATURES = Feature(
    name="signatures by identity",
    permission="id-token: write",
    lost="releases are signed with a key, or not at all",
)

FEATURES = (
    ROLES, CONTENTS, PULLS, ACTIVITY, CHECKS, COMMENTS, REACTIONS, TAGS, RELEASES, SIGNATURES,
)  # fmt: skip
"""All of them, in the order of a run."""


def accepted(header: str) -> str:
    """Returns `checks: write` for `checks=write`, as X-Accepted-GitHub-Permissions says it; "" for "".

    Sets are separated by `;`, any of which is enough; the permissions of a set by `,`.
    https://github.blog/changelog/2023-08-10-x-accepted-github-permissions-header-for-fine-grained-permission-actors
    """
    sets = [
        " and ".join(
            each.strip().replace("_", "-").replace("=", ": ") for each in one.split(",") if each.strip()
        )
        for one in header.split(";")
    ]
    return " or ".join(one for one in sets if one)
