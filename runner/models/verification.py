"""A version's files, its statement and whom to trust -> a report of what holds and what does not, offline."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.models.provenance import BUILD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Origin, statement
from runner.models.signatures import Finding, Signers, open_document
from runner.models.version import Version, faulty_path

_EMPTY = f"sha256:{hashlib.sha256(b'').hexdigest()}"
_MOST = 20
_AGAIN = "pushtrain models download {reference} NEW_FOLDER brings the files as they were registered"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was looked at, in order; `signed` is whether a signature was found that counts."""

    findings: tuple[Finding, ...]
    signed: bool

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        return all(finding.ok for finding in self.findings)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What does not hold."""
        return tuple(finding for finding in self.findings if not finding.ok)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a statement should be about: a model, its version (None: any), and the registry's record if there is one."""

    name: str
    number: str | None
    version: Version | None

    @property
    def reference(self) -> str:
        """`NAME@VERSION` as one types it."""
        return f"{self.name}@{self.number}" if self.number else self.name


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where the files lie: `places` is the file's path in it by its name in the model, where that differs.

    `aside` are names at its top that are not the model's. Empty files may be missing where `lacks_empty`.
    """

    path: Path
    places: Mapping[str, str] = field(default_factory=dict)
    aside: frozenset[str] = frozenset()
    lacks_empty: bool = False


def verify(
    document: bytes | None,
    folder: Folder,
    wanted: Wanted,
    signers: Signers,
    *,
    unsigned_ok: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares files, statement and record with each other and verifies who signed; reads only what lies here.

    `progress` is called with the bytes hashed since its last call. Raises ModelError where the statement cannot be
    read at all, and as `open_document`.
    """
    findings: list[Finding] = []
    subjects: Mapping[str, str] | None = None
    signed = False
    if document is None:
        tip = "--unsigned-ok compares the files with the registry's record alone"
        findings.append(Finding(ok=unsigned_ok, text=f"nobody signed {wanted.reference}", tip=tip))
    else:
        opened = open_document(document, signers)
        signed = opened.finding.ok
        nobody = opened.payload == document
        findings.append(replace(opened.finding, ok=True) if unsigned_ok and nobody else opened.finding)
        stated = _parsed(opened.payload)
        findings += _about(stated, wanted, signed_in=opened.repository)
        subjects = _subjects(stated)
    if subjects is None and wanted.version is not None:
        subjects = {file.path: file.digest for file in wanted.version.files}
    findings += _files(folder, subjects or {}, wanted, progress or _silent)
    return Report(findings=tuple(findings), signed=signed)


def _silent(done_bytes: int) -> None:
    del done_bytes


# What the statement says


def _parsed(payload: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(payload)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _at(document: object, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _list(document: object, *path: str) -> list[Any]:
    found = _at(document, *path)
    return found if isinstance(found, list) else []


def _subjects(stated: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The digest by the name of every subject; None where it has none that can be read."""
    found = {}
    for subject in _list(stated, "subject"):
        name, digest = _at(subject, "name"), _at(subject, "digest", "sha256")
        if not isinstance(name, str) or not isinstance(digest, str) or name in found:
            return None
        found[name] = f"sha256:{digest}"
    return found or None


_KIND = (
    ("type", STATEMENT_TYPE, ("_type",)),
    ("predicate", PREDICATE_TYPE, ("predicateType",)),
    ("build", BUILD_TYPE, ("predicate", "buildDefinition", "buildType")),
)


def _about(stated: Mapping[str, Any], wanted: Wanted, *, signed_in: str | None) -> Iterator[Finding]:
    for noun, expected, path in _KIND:
        if (found := _at(stated, *path)) != expected:
            text = f"it is a statement of another {noun}: {_shown(found)}, not {expected}"
            yield Finding(ok=False, text=text, tip="name the statement that Pushtrain made of this version")
            return
    if _subjects(stated) is None:
        yield Finding(ok=False, text="its subjects are not files with a sha256 each", tip=_other(wanted))
        return
    claims = _claims(stated)
    told = f"{claims['model']}@{claims['version']}"
    if claims["model"] != wanted.name or wanted.number not in (None, claims["version"]):
        text = f"the statement is about {_shown(told)}, not {wanted.reference}"
        yield Finding(ok=False, text=text, tip=_other(wanted))
        return
    yield from _signed_where(stated, signed_in)
    yield from _as_recorded(claims, wanted)


def _other(wanted: Wanted) -> str:
    return (
        f"a statement was put in the place of another: do not use {wanted.reference} before you know who did"
    )


def _signed_where(stated: Mapping[str, Any], signed_in: str | None) -> Iterator[Finding]:
    """A workflow of one repository has no business with the models of another."""
    told = _at(stated, "predicate", "buildDefinition", "externalParameters", "source", "repository")
    if signed_in is not None and told is not None and signed_in != told:
        text = f"it says that the model is of {_shown(told)}, and was signed in {signed_in}"
        yield Finding(ok=False, text=text, tip="find out why another repository signed it")


def _claims(stated: Mapping[str, Any]) -> dict[str, object]:
    """What a statement says that a version's record says as well, by what one calls it."""
    definition = _at(stated, "predicate", "buildDefinition")
    external, internal = _at(definition, "externalParameters"), _at(definition, "internalParameters")
    details = _at(stated, "predicate", "runDetails")
    return {
        "model": _at(external, "model"),
        "version": _at(internal, "version"),
        "run": _at(details, "metadata", "invocationId"),
        "commit": _at(external, "source", "commit"),
        "branch": _at(external, "source", "branch"),
        "tree": _at(internal, "tree"),
        "plan": _at(internal, "planHash"),
        "inputs": _at(external, "inputs"),
        "metrics": [_at(each, "content") for each in _list(details, "byproducts")],
        "data and environment": sorted(
            (str(_at(each, "name")), str(_at(each, "digest") or _at(each, "uri")))
            for each in _list(definition, "resolvedDependencies")
        ),
        "files": _subjects(stated),
    }


def _as_recorded(claims: Mapping[str, object], wanted: Wanted) -> Iterator[Finding]:
    if wanted.version is None:
        yield Finding(
            ok=True, text=f"the statement is about {claims['model']}@{claims['version']}: {_run(claims)}"
        )
        return
    recorded = _claims(_parsed(statement(wanted.version, Origin())))
    different = [noun for noun, value in recorded.items() if claims[noun] != value]
    for noun in different:
        text = f"the {noun} of the registry's record is not the statement's: {_pair(recorded[noun], claims[noun])}"
        yield Finding(
            ok=False, text=text, tip="the record was changed since it was signed; trust the statement"
        )
    if not different:
        yield Finding(ok=True, text=f"statement and record agree: {_run(claims)}")


def _run(claims: Mapping[str, object]) -> str:
    commit = claims["commit"]
    return f"run {claims['run']}" + (f" of commit {commit}" if commit else ", of no commit")


def _pair(recorded: object, stated: object) -> str:
    """Two values that differ, or only the parts of two mappings that do."""
    if isinstance(recorded, dict) and isinstance(stated, dict):
        names = sorted(n for n in {*recorded, *stated} if recorded.get(n) != stated.get(n))
        return ", ".join(f"{n}: {_shown(recorded.get(n))} and {_shown(stated.get(n))}" for n in names[:_MOST])
    return f"{_shown(recorded)} and {_shown(stated)}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"


# What lies in the folder


def _files(
    folder: Folder, subjects: Mapping[str, str], wanted: Wanted, progress: Callable[[int], None]
) -> Iterator[Finding]:
    tip = _AGAIN.format(reference=wanted.reference)
    there = set(_walk(folder.path))
    places = {name: folder.places.get(name, name) for name in subjects}
    faults = [
        fault
        for name in sorted(subjects)
        if (fault := _fault(folder, places[name], subjects[name], progress))
    ]
    extra = sorted(there - set(places.values()) - folder.aside)
    faults += [f"{_shown(path)} is no file of the model" for path in extra]
    yield from (Finding(ok=False, text=text, tip=tip) for text in _cut(faults))
    if not subjects:
        yield Finding(ok=False, text="there is nothing to compare the files with")
    elif not faults:
        files = "1 file" if len(subjects) == 1 else f"all {len(subjects)} files"
        yield Finding(ok=True, text=f"{files} in {folder.path} as registered, and nothing else")


def _cut(faults: Sequence[str]) -> list[str]:
    more = len(faults) - _MOST
    return [*faults[:_MOST], f"and {more} files more"] if more > 0 else list(faults)


def _fault(folder: Folder, place: str, digest: str, progress: Callable[[int], None]) -> str:
    """What is wrong with one file; empty where nothing is."""
    if why := faulty_path(place):
        return f"{_shown(place)} is not looked at: {why}"
    path = folder.path / place
    if path.is_symlink():
        return f"{place} is a link, not the file"
    if not path.is_file():
        return "" if folder.lacks_empty and digest == _EMPTY else f"{place} is missing"
    try:
        found = _digest(path, progress)
    except OSError as error:
        return f"{place} cannot be read: {error.strerror}"
    return "" if found == digest else f"{place} was changed: it has {found}, registered was {digest}"


def _digest(path: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            progress(len(block))
    return f"sha256:{digest.hexdigest()}"


def _walk(folder: Path) -> Iterator[str]:
    """Every path below the folder that is no folder itself; links are not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from ((Path(parent) / name).relative_to(folder).as_posix() for name in (*files, *links))
