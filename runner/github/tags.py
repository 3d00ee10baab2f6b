"""Annotated tags: who made them, when, on which commit, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from runner.errors import Conflict
from runner.github.client import part
from runner.github.permissions import TAGS
from runner.github.refusals import Call, Rejected

if TYPE_CHECKING:
    from runner.github.client import Repository

_REF = "refs/tags/"


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A tag as the list of refs has it; `object` is the commit, or of an annotated tag its own digest."""

    name: str
    object: str
    annotated: bool


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A tag; of one that is not annotated `message` and `by` are empty and `at_s` is None (unix seconds)."""

    name: str
    commit: str
    message: str
    by: str
    at_s: float | None


class _Object(msgspec.Struct):
    sha: str
    type: str


class _Ref(msgspec.Struct):
    ref: str
    object: _Object


class _Tagger(msgspec.Struct):
    name: str = ""
    date: datetime | None = None


class _Tag(msgspec.Struct):
    sha: str
    object: _Object
    message: str = ""
    tagger: _Tagger | None = None


def refs(repository: Repository, prefix: str) -> tuple[Ref, ...]:
    """Returns the tags whose names start with `prefix`, by name; a request for each hundred."""
    call = Call(doing=f"list the tags {prefix}*", feature=TAGS)
    found = repository.pages(call, f"git/matching-refs/tags/{part(prefix)}", _Ref)
    return tuple(
        Ref(name=each.ref.removeprefix(_REF), object=each.object.sha, annotated=each.object.type == "tag")
        for each in found
    )


def read(repository: Repository, ref: Ref) -> Tag:
    """Returns what an annotated tag says: one request, and none where a cache has it (it can never change)."""
    if not ref.annotated:
        return Tag(name=ref.name, commit=ref.object, message="", by="", at_s=None)
    call = Call(doing=f"show the tag {ref.name}", feature=TAGS)
    found = repository.get(call, f"git/tags/{ref.object}", _Tag)
    tagger = found.tagger or _Tagger()
    return Tag(
        name=ref.name,
        commit=found.object.sha,
        message=found.message,
        by=tagger.name,
        at_s=tagger.date.timestamp() if tagger.date else None,
    )


def tags(repository: Repository, prefix: str) -> tuple[Tag, ...]:
    """Returns the tags whose names start with `prefix`, with what they say; see `refs` and `read` for the requests."""
    return tuple(read(repository, ref) for ref in refs(repository, prefix))


def create_tag(repository: Repository, name: str, *, commit: str, message: str) -> None:
    """Makes an annotated tag, or raises Conflict where the name is taken, by whatever: of two at once one wins.

    A call that is repeated by itself after a cut line knows its own tag again; a second call raises Conflict.
    """
    call = Call(doing=f"make the tag {name}", feature=TAGS)
    body = {"tag": name, "message": message, "object": commit, "type": "commit"}
    # Of an object that nothing refers to, a second one does no harm.
    made = repository.say(call, "git/tags", body, _Tag)

    def look() -> _Ref | None:
        there = repository.find(call, f"git/ref/tags/{part(name)}", _Ref)
        return there if there and there.object.sha == made.sha else None

    try:
        repository.create(call, "git/refs", {"ref": f"{_REF}{name}", "sha": made.sha}, _Ref, look=look)
    except Rejected as error:
        if not error.taken:
            raise
        raise Conflict(f"the tag {name} exists already in {repository.name}") from error
