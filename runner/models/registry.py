"""Drafts -> versions that nobody can change, and how they are found again."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from semver import Version as SemVer

from runner.errors import Conflict, ModelError
from runner.models.shelf import Shelf, StoreShelf, newest_first, option
from runner.models.version import FIRST, NAME_RULE, Bump, Draft, Version, faulty_path, valid_name
from runner.store import Store

logger = logging.getLogger(__name__)


def register(store: Store, draft: Draft) -> Version:
    """The draft as the model's next version: 1.0.0, then the latest with `draft.bump` raised.

    Repeating is safe: what the same run registered already is returned as it is. Two runs that register at
    once get two versions. Raises ModelError for a name or path that cannot be kept, for a model without
    files, and for a file whose blob is not in the store.
    """
    shelf = StoreShelf(store)
    _check(shelf, draft)
    while True:
        known = tuple(versions(shelf, draft.name))
        for version in known:
            if version.lineage.run_id == draft.lineage.run_id:
                return version
        version = _numbered(draft, _next((version.version for version in known), draft.bump, draft.after))
        try:
            shelf.add_version(version)
        except Conflict:
            continue
        logger.info("registered %s", version.tag)
        return version


def renumber(store: Store, version: Version, *, bump: Bump, after: str | None) -> Version:
    """The same model of the same run again, under a number beyond `after`; the version itself stays.

    Repeating is safe: a later version of the same run that is there already is returned, the next one after this.
    """
    shelf = StoreShelf(store)
    while True:
        known = tuple(versions(shelf, version.name))
        newer = [each for each in known if SemVer.parse(each.version) > SemVer.parse(version.version)]
        same = [each for each in newer if each.lineage.run_id == version.lineage.run_id]
        if same:
            return same[-1]
        number = _next((each.version for each in known), bump, after)
        made = replace(version, version=number)
        try:
            shelf.add_version(made)
        except Conflict:
            continue
        logger.info("registered %s again as %s", version.tag, made.tag)
        return made


def _check(shelf: StoreShelf, draft: Draft) -> None:
    check_name(draft.name, "model")
    if not draft.files:
        raise ModelError(f"{draft.name}: there is no file to register", tip="check release.path in train.yml")
    for file in draft.files:
        if fault := faulty_path(file.path):
            raise ModelError(f"{draft.name}: {file.path!r} cannot be registered: {fault}")
    missing = next((file for file in draft.files if not shelf.has_file(file)), None)
    if missing is not None:
        raise ModelError(
            f"{draft.name}: {missing.path} ({missing.digest}) is not in the store",
            tip=f"pushtrain resume {draft.lineage.run_id}",
        )


def _next(known: Iterable[str], bump: Bump, after: str | None) -> str:
    there = newest_first((*known, *([after] if after else [])))
    return str(SemVer.parse(there[0]).next_version(bump)) if there else FIRST


def _numbered(draft: Draft, version: str) -> Version:
    return Version(
        name=draft.name,
        version=version,
        framework=draft.framework,
        framework_version=draft.framework_version,
        resources=draft.resources,
        files=draft.files,
        lineage=draft.lineage,
        created_at_s=draft.created_at_s,
    )


def versions(shelf: Shelf, name: str) -> Iterator[Version]:
    """All versions of a model, newest first, read as they are asked for; none if there is no such model."""
    return (shelf.version(name, number) for number in shelf.numbers(name))


def numbered(shelf: Shelf, reference: str) -> Version:
    """The version that `NAME@VERSION` stands for, or the latest of `NAME`. Raises as `find`."""
    name, _, number = reference.partition("@")
    numbers = require_model(shelf, name)
    wanted = number.removeprefix("v") if "@" in reference else numbers[0]
    if wanted not in numbers:
        nearest = suggestion(wanted, numbers)
        there = f"there are {', '.join(numbers[:10])}" + (" …" if len(numbers) > 10 else "")
        message = f"{name} has no version {wanted or repr(wanted)}{nearest}; {there}"
        raise ModelError(message, tip=f"pushtrain models show {name}{option(shelf)}")
    return shelf.version(name, wanted)


def require_model(shelf: Shelf, name: str) -> tuple[str, ...]:
    """The versions of a model, newest first; raises ModelError where there is no such model."""
    numbers = shelf.numbers(name)
    if not numbers:
        message = f"there is no model {name!r}{suggestion(name, shelf.names())}"
        raise ModelError(message, tip=f"pushtrain models{option(shelf)}")
    return numbers


def blobs(store: Store) -> frozenset[str]:
    """The digests that any version of any model refers to: what must never be removed."""
    shelf = StoreShelf(store)
    return frozenset(
        file.digest for name in shelf.names() for version in versions(shelf, name) for file in version.files
    )


def check_name(name: str, noun: str) -> None:
    """Raises ModelError where `name` cannot be the name of a model or a stage."""
    if not valid_name(name):
        raise ModelError(f"{name!r} cannot name a {noun}", tip=f"use {NAME_RULE}")


def suggestion(wanted: str, there: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing where no name is near."""
    close = difflib.get_close_matches(wanted, list(there), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
