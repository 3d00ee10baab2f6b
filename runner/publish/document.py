"""A version -> what its release holds: which asset carries which file, the document that says so, the tag's words."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from runner.errors import ModelError
from runner.models import Promotion, Version, valid_name
from runner.models.signing import NAMES
from runner.models.version import STRICT, faulty_path

DOCUMENT = "pushtrain-model.json"
MANIFEST = "pushtrain-manifest.json"
STATEMENTS = NAMES
"""Names of the signed statement, the strongest signature first."""

OURS = frozenset({DOCUMENT, MANIFEST, *STATEMENTS})

# https://docs.github.com/en/repositories/releasing-projects-on-github/about-releases#storage-and-bandwidth-quotas
# "Each file included in a release must be under 2 GiB", and at most 1,000 of them; a hundred are left for others.
FILE_LIMIT_BYTES = (2 << 30) - 1
FILES_LIMIT = 900

_NAME_LIMIT = 150
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION_TAG = re.compile(r"(?P<name>[^@#/]+)@v(?P<number>[^@#/]+)")
_PROMOTION_TAG = re.compile(r"(?P<name>[^@#/]+)#(?P<stage>[^@#/]+)#(?P<n>[1-9][0-9]{0,8})")


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a release holds of a version: `assets` is the name of the asset by the path of its file.

    A file that is not among them is empty (GitHub takes no empty asset), or lies in `store`.
    """

    __pydantic_config__ = STRICT

    version: Version
    assets: Mapping[str, str]
    store: str | None
    format: Literal[1] = 1


def document(
    version: Version,
    *,
    store_uri: str,
    file_limit_bytes: int = FILE_LIMIT_BYTES,
    files_limit: int = FILES_LIMIT,
) -> Document:
    """The document of a version: always the same for the same limits and store. Pure."""
    small = [file.path for file in version.files if 0 < file.size_bytes <= file_limit_bytes]
    assets = asset_names(small[:files_limit])
    rest = any(file.size_bytes and file.path not in assets for file in version.files)
    return Document(version=version, assets=assets, store=_told(store_uri) if rest else None)


def asset_names(paths: Iterable[str]) -> dict[str, str]:
    """A name for each path that GitHub leaves as it is, unlike any other also where case does not count.

    GitHub renames what has other signs than letters, digits, `-`, `_` and single dots:
    https://docs.github.com/en/rest/releases/assets#upload-a-release-asset
    """
    names: dict[str, str] = {}
    taken = {name.casefold() for name in OURS}
    for path in paths:
        name = next(each for each in _candidates(path) if each.casefold() not in taken)
        taken.add(name.casefold())
        names[path] = name
    return names


def _candidates(path: str) -> Iterator[str]:
    """Names for a path, the most readable first; they never end."""
    name = _UNSAFE.sub(".", path).strip(".")
    if 0 < len(name) <= _NAME_LIMIT:
        yield name
    stem = name[: _NAME_LIMIT - 13].strip(".") or "file"
    for count in itertools.count():
        yield f"{stem}.{hashlib.sha256(f'{count} {path}'.encode()).hexdigest()[:12]}"


def _told(uri: str) -> str:
    """A store's place as everybody may read it: an S3 endpoint is a URL of its own, which may carry a password."""
    place, _, options = uri.partition("?")
    kept = [each for each in options.split("&") if each.startswith(("endpoint=", "region="))]
    return re.sub(r"//[^/@]*@", "//", "?".join([place, *(["&".join(kept)] if kept else [])]))


def dump_document(made: Document) -> bytes:
    """The document as the asset `pushtrain-model.json` has it."""
    from pydantic import TypeAdapter

    from runner.models.saved import dump

    return dump(TypeAdapter(Document), made)


def load_document(content: bytes, *, tag: str, digest: str | None) -> Document:
    """The document of the version that `tag` stands for; `digest` is what the tag's message says it has.

    Whoever may write to the repository may have changed it. Raises ModelError where it is not what the tag
    says, is about another version, or has paths or digests that are none.
    """
    from pydantic import TypeAdapter

    from runner.models.saved import load

    where = f"{DOCUMENT} of the release {tag}"
    if digest is not None and digest_of(content) != digest:
        raise ModelError(
            f"{where} was changed after it was published: its tag says {digest}, it has {digest_of(content)}",
            tip="find out who changed the release; nothing of it was used",
        )
    made = load(TypeAdapter(Document), content, where)
    if fault := _fault(made, tag):
        raise ModelError(f"{where} {fault}", tip="it was changed by hand; nothing of it was used")
    return made


def _fault(made: Document, tag: str) -> str:
    version = made.version
    if not valid_name(version.name) or version.tag != tag:
        return f"is about {version.tag!r}"
    for file in version.files:
        if why := faulty_path(file.path):
            return f"names the file {file.path!r}: {why}"
        if not _DIGEST.fullmatch(file.digest) or file.size_bytes < 0:
            return f"has no digest or size for {file.path!r}"
    paths = [file.path for file in version.files]
    if len(set(paths)) != len(paths):
        return "names a file twice"
    if OURS & set(made.assets.values()):
        return "gives one of its own assets for a file"
    return ""


def digest_of(content: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# The tags


@dataclass(frozen=True, kw_only=True)
class VersionNote:
    """What the message of a version's tag says: the run it is of, and the digest of its document."""

    run_id: str | None
    document: str | None


def version_message(version: Version, document_digest: str) -> str:
    """The message of a version's tag: a sentence, and what binds the release to the tag as trailers of git."""
    lineage = version.lineage
    return (
        f"{version.name} {version.version}\n\n"
        f"Trained from commit {lineage.commit} by run {_line(lineage.run_id)}.\n\n"
        f"Pushtrain-Run: {_line(lineage.run_id)}\n"
        f"Pushtrain-Document: {document_digest}\n"
    )


def version_note(message: str) -> VersionNote:
    """What `version_message` wrote, as far as it is there."""
    return VersionNote(
        run_id=_trailer(message, "Pushtrain-Run"), document=_trailer(message, "Pushtrain-Document")
    )


def promotion_message(promotion: Promotion) -> str:
    """The message of a promotion's tag: a sentence, and the promotion as JSON."""
    from runner.models.saved import PROMOTION

    again = " again" if promotion.restores is not None else ""
    text = PROMOTION.dump_json(promotion).decode()
    return (
        f"{promotion.name} {promotion.version} is {promotion.stage}{again}, by {_line(promotion.by)}\n\n"
        f"Pushtrain-Promotion: {text}\n"
    )


def promotion_note(message: str, *, tag: str) -> Promotion | None:
    """The promotion that a tag's message tells of; None where it tells of none.

    Raises ModelError where it tells of another than that of the tag.
    """
    from runner.models.saved import PROMOTION, load

    text = _trailer(message, "Pushtrain-Promotion")
    if text is None:
        return None
    promotion = load(PROMOTION, text.encode(), f"the message of the tag {tag}")
    if promotion.tag != tag:
        raise ModelError(f"the message of the tag {tag} is about {promotion.tag}", tip=f"git show {tag!r}")
    return promotion


def read_version_tag(tag: str) -> tuple[str, str] | None:
    """Name and number of `NAME@v1.2.0`; None for any other tag."""
    found = _VERSION_TAG.fullmatch(tag)
    return (found["name"], found["number"]) if found and valid_name(found["name"]) else None


def read_promotion_tag(tag: str) -> tuple[str, str, int] | None:
    """Name, stage and number of `NAME#STAGE#3`; None for any other tag."""
    found = _PROMOTION_TAG.fullmatch(tag)
    if found is None or not valid_name(found["name"]) or not valid_name(found["stage"]):
        return None
    return found["name"], found["stage"], int(found["n"])


def _trailer(message: str, key: str) -> str | None:
    found = re.search(rf"(?m)^{key}: (.+)$", message)
    return found[1].strip() if found else None


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
