"""The version of a run -> its signed release on GitHub, under another number where somebody took that one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import models
from runner.models import provenance
from runner.models.shelf import StoreShelf
from runner.publish.document import version_note
from runner.publish.github import GITHUB_LIMITS, Limits, Taken, latest, publish
from runner.publish.shelf import one_tag

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.models import Bump, Version
    from runner.models.provenance import Origin
    from runner.store import Progress, Store

logger = logging.getLogger(__name__)

TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Released:
    """What was published: `version` has another number than before where that was taken; `notes` are sentences."""

    version: Version
    url: str
    notes: tuple[str, ...]


def release(
    repository: Repository,
    store: Store,
    version: Version,
    *,
    bump: Bump,
    origin: Origin,
    server_url: str,
    environ: Mapping[str, str],
    progress: Progress | None = None,
    limits: Limits = GITHUB_LIMITS,
) -> Released:
    """Signs and publishes a version of the store. Safe to repeat, as `publish`, which also says what it raises.

    Where another run has its number on GitHub by now, as happens to two stores at once, it is registered again under
    the next one (`bump` says which), and that is published; every repetition finds it.
    """
    shelf = StoreShelf(store)
    wanted = version
    for left in reversed(range(TRIES)):
        version = _settled(repository, store, version, bump)
        signed = provenance.attest(shelf, version, origin, environ)
        logger.info("%s: %s", version.tag, signed.note)
        try:
            url = publish(
                repository,
                store,
                version,
                origin=origin,
                server_url=server_url,
                statement=signed.document,
                progress=progress,
                limits=limits,
            )
        except Taken:
            if not left:
                raise
            continue
        return Released(version=version, url=url, notes=_notes(wanted, version))
    raise AssertionError("the last try returns or raises")


def _settled(repository: Repository, store: Store, version: Version, bump: Bump) -> Version:
    """The version under a number that is free on GitHub, or this run's there."""
    while _is_taken(repository, version):
        version = models.renumber(store, version, bump=bump, after=latest(repository, version.name))
    return version


def _is_taken(repository: Repository, version: Version) -> bool:
    tag = one_tag(repository, version.tag)
    return tag is not None and version_note(tag.message).run_id != version.lineage.run_id


def _notes(wanted: Version, version: Version) -> tuple[str, ...]:
    if version.version == wanted.version:
        return ()
    return (f"{wanted.tag} was taken on GitHub by another run, so this is {version.tag}",)
