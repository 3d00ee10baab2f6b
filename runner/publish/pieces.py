"""A version in the store -> the assets that its release is to have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import runs
from runner.errors import NotFound
from runner.models.signing import Signed
from runner.publish.document import DOCUMENT, MANIFEST, STATEMENTS, digest_of

if TYPE_CHECKING:
    from runner.publish.document import Document
    from runner.store import Store


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is to be an asset: `bring` puts it into a file.

    `digest` is None where any content under this name will do, or under one of those `instead`.
    """

    name: str
    size_bytes: int
    digest: str | None
    bring: Callable[[Path], object]
    instead: tuple[str, ...] = ()


def pieces(store: Store, made: Document, content: bytes, *, statement: bytes) -> tuple[Piece, ...]:
    """The assets in the order in which they are sent; `content` is the document's own. Raises StoreError."""
    return (
        *_files(store, made),
        *_manifest(store, made.version.lineage.run_id),
        _statement(statement),
        _small(DOCUMENT, content),
    )


def _files(store: Store, made: Document) -> Iterator[Piece]:
    for file in made.version.files:
        if name := made.assets.get(file.path):
            yield Piece(
                name=name,
                size_bytes=file.size_bytes,
                digest=file.digest,
                bring=lambda path, digest=file.digest: store.get_blob(digest, path),  # type: ignore[misc]  # bound now
            )


def _manifest(store: Store, run_id: str) -> Iterator[Piece]:
    """What the run wrote in all; nothing where its folder is gone."""
    try:
        yield _small(MANIFEST, store.read(runs.key(run_id, "outputs.json")))
    except NotFound:
        return


def _statement(content: bytes) -> Piece:
    """No two signatures are the same: the first one stays, and a stronger one is as good."""
    name = Signed(document=content, note="").name
    return Piece(
        name=name,
        size_bytes=len(content),
        digest=None,
        bring=lambda path: path.write_bytes(content),
        instead=STATEMENTS[: STATEMENTS.index(name)],
    )


def _small(name: str, content: bytes) -> Piece:
    return Piece(
        name=name,
        size_bytes=len(content),
        digest=digest_of(content),
        bring=lambda path: path.write_bytes(content),
    )
