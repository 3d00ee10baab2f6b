"""Data registered in the store under a name: `mnist@v3` lists files among the store's blobs, for good."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from runner.datasets import Dataset, Pin, Progress, Where, changed
from runner.datasets.contents import Contents, File, checked, listed
from runner.errors import Conflict, DatasetError, NotFound
from runner.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TRANSFERS = 4


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered version of a data set; it never changes. `created_at_s` is in unix seconds."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}

    name: str
    number: int
    digest: str
    size_bytes: int
    files: tuple[File, ...]
    file_name: str = ""
    created_at_s: float

    def __str__(self) -> str:
        return f"{self.name}@v{self.number}"


def register(store: Store, name: str, path: Path, *, progress: Progress = lambda _: None) -> str:
    """Put a file or folder into the store and return its new version, such as `mnist@v3`.

    Safe to repeat: content equal to that of the newest version gives that version. Two at once get different
    numbers. Raises DatasetError for a name or content that cannot be registered, StoreError for the store.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r} cannot be the name of a data set",
            tip="use letters, digits, dots, dashes and underscores",
        )
    content = _put(store, path, progress)
    newest = max(_numbers(store, name), default=0)
    if newest:
        latest = read(store, name, newest)
        if (latest.digest, latest.file_name) == (content.digest, content.file_name):
            return str(latest)
    return str(_create(store, name, content, number=newest + 1))


def versions(store: Store, name: str | None = None) -> tuple[Version, ...]:
    """Return the versions of a data set, newest first; without a name those of all, by name."""
    names = [name] if name else sorted(store.children("datasets"))
    return tuple(
        read(store, each, number) for each in names for number in sorted(_numbers(store, each), reverse=True)
    )


def blobs(store: Store) -> frozenset[str]:
    """Return the digests of all blobs that a registered version needs: what a clean-up must keep."""
    return frozenset(file.digest for version in versions(store) for file in version.files)


def read(store: Store, name: str, number: int) -> Version:
    """Return one version; raises DatasetError where there is none, or where its list of files is damaged."""
    from pydantic import TypeAdapter, ValidationError

    try:
        version = TypeAdapter(Version).validate_json(store.read(_key(name, number)))
    except NotFound as error:
        raise _missing(store, name, number) from error
    except ValidationError as error:
        raise DatasetError(f"{_key(name, number)} in {store.uri} is damaged: {error}") from error
    content = Contents(files=version.files, file_name=version.file_name)
    if content.digest != version.digest or any(checked(file.path) != file.path for file in version.files):
        raise DatasetError(f"{_key(name, number)} in {store.uri} is damaged: its files have {content.digest}")
    return version


class Registered:
    """A version in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pin(self, source: str) -> Pin:
        """See Backend.pin; reads the list of files."""
        version = _named(self._store, source)
        return Pin(
            source=source, digest=version.digest, size_bytes=version.size_bytes, file_name=version.file_name
        )

    def bring(self, dataset: Dataset, folder: Path, *, progress: Progress) -> None:
        """See Backend.bring; the store verifies every blob. What an earlier fetch left is kept."""
        version = _named(self._store, dataset.source)
        if version.digest != dataset.digest:
            raise changed(dataset.source, found=version.digest, pinned=dataset.digest)

        def bring(file: File) -> int:
            target = folder / file.path
            if not target.exists():
                self._store.get_blob(file.digest, target)
            return file.size_bytes

        try:
            with ThreadPoolExecutor(_TRANSFERS) as pool:
                for size_bytes in pool.map(bring, version.files):
                    progress(size_bytes)
        except NotFound as error:
            raise DatasetError(
                f"{dataset.source} is not complete any more: {error}", tip="register it again from its source"
            ) from error


def open_backend(where: Where) -> Registered:
    """Return the backend; it reads the store."""
    return Registered(where.store)


def _put(store: Store, path: Path, progress: Progress) -> Contents:
    found = list(listed(path))
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        files = []
        for file, blob in zip(
            found, pool.map(lambda file: store.put_blob(Path(file.where)), found), strict=True
        ):
            files.append(File(path=checked(file.seen.path), size_bytes=blob.size_bytes, digest=blob.digest))
            progress(blob.size_bytes)
    return Contents(files=tuple(files), file_name="" if path.is_dir() else path.name)


def _create(store: Store, name: str, content: Contents, *, number: int) -> Version:
    while True:
        version = Version(
            name=name,
            number=number,
            digest=content.digest,
            size_bytes=content.size_bytes,
            files=content.files,
            file_name=content.file_name,
            created_at_s=time.time(),
        )
        try:
            store.create(_key(name, number), json.dumps(asdict(version), indent=1).encode())
        except Conflict:
            number += 1
            continue
        return version


def _named(store: Store, source: str) -> Version:
    name, _, number = source.rpartition("@v")
    return read(store, name, int(number))


def _numbers(store: Store, name: str) -> Iterator[int]:
    for child in store.children(f"datasets/{name}"):
        if match := re.fullmatch(r"v([1-9][0-9]*)\.json", child):
            yield int(match[1])


def _key(name: str, number: int) -> str:
    return f"datasets/{name}/v{number}.json"


def _missing(store: Store, name: str, number: int) -> DatasetError:
    from runner.document import closest

    source = f"{name}@v{number}"
    if numbers := sorted(_numbers(store, name)):
        there_are = ", ".join(f"{name}@v{each}" for each in numbers[-5:])
        return DatasetError(f"there is no {source} in {store.uri}", tip=f"there is {there_are}")
    near = closest(name, store.children("datasets"))
    guess = f"did you mean {near}?" if near else "register it first, or write ./ before the name of a file"
    return DatasetError(f"there is no {source} in {store.uri}", tip=guess)
