"""Models of runs -> releases and stages on GitHub, and in the store of runs so that both agree."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from runner import models, release, runs
from runner.errors import GitHubError, ModelError
from runner.models import provenance
from runner.models.shelf import StoreShelf
from runner.publish import check
from runner.publish import github as releases
from runner.publish.release import release as release_on_github
from runner.publish.shelf import GitHubShelf

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.models import Promotion
    from runner.plan import Plan
    from runner.runs import Run
    from runner.trigger.comment import Promote

logger = logging.getLogger(__name__)


def latest_published(desk: Desk, model: str) -> str | None:
    """The newest version that the repository has of a model, so that the next one counts on from it."""
    try:
        return releases.latest(desk.repository, model)
    except GitHubError as error:
        logger.warning("which versions of %s are on GitHub cannot be told: %s", model, error)
        return None


def obstacles(desk: Desk, model: str) -> tuple[str, ...]:
    """What would keep the model from being released on GitHub, told before a GPU is used for it."""
    try:
        return check.notes(desk.repository, model)
    except GitHubError as error:
        logger.warning("whether %s can be released cannot be told: %s", model, error)
        return ()


def publish(desk: Desk, run: Run, plan: Plan, *, job_url: str) -> str:
    """Put the run's version into a release, signed; returns its page. Safe to repeat.

    `job_url` is that of the job that asked for the run, empty where none did. Raises GitHubError, StoreError
    or ModelError.
    """
    assert plan.release is not None
    done = release_on_github(
        desk.repository,
        desk.shop.store,
        models.find(StoreShelf(desk.shop.store), str(run.release)),
        bump=plan.release.bump,
        origin=_origin(desk, run, plan, job_url=job_url),
        server_url=desk.place.server_url,
        environ=os.environ,
    )
    for note in done.notes:
        logger.warning("%s", note)
    name = f"{done.version.name}@{done.version.version}"
    if name != run.release:  # Somebody else's run took the number meanwhile.
        runs.update(desk.shop.store, run.id, lambda found: msgspec.structs.replace(found, release=name))
    return done.url


def _origin(desk: Desk, run: Run, plan: Plan, *, job_url: str) -> provenance.Origin:
    origin = replace(
        release.origin(plan, run),
        repository=desk.place.url,
        train_file=plan.asked.train_file,
        job_url=job_url or desk.place.job_url or None,
    )
    return provenance.on_github(origin, os.environ)


def promote(desk: Desk, wish: Promote, *, by: str) -> Promotion:
    """Give a stage to a version on GitHub, and in the store where that has the version too. Safe to repeat.

    Raises ModelError where there is no such version, GitHubDenied where the token may not.
    """
    published = GitHubShelf(desk.repository, store=desk.shop.store)
    promotion = models.promote(
        published, wish.model, wish.version, wish.stage, by=by, at_s=time.time(), expected=None
    )
    try:
        version = published.version(wish.model, promotion.version)
        models.mirror(StoreShelf(desk.shop.store), promotion, version)
    except ModelError as error:
        logger.warning("the store's own registry was not told: %s", error)
    return promotion
