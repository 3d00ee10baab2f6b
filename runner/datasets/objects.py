"""Data in S3, or what speaks like it: a prefix is a folder, a key is a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from runner.datasets import VALIDATORS, Dataset, Pin, Progress, Where, changed
from runner.datasets.contents import checked, digest_of
from runner.errors import Conflict, DatasetError, NotFound, StoreError
from runner.store.s3_bucket import Bucket, open_bucket
from runner.store.s3_transfer import fetch, in_order, part_bytes


@dataclass(frozen=True, kw_only=True)
class Object:
    """One object; `path` is its key below the prefix, or its last part where it is the source itself."""

    key: str
    path: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The objects of a source, sorted by path; `file_name` where it is one object instead of a prefix."""

    objects: tuple[Object, ...]
    file_name: str = ""

    @property
    def digest(self) -> str:
        """The digest over names, sizes and ETags; it needs no download."""
        rows = digest_of([each.path, each.size_bytes, each.etag] for each in self.objects)
        return rows.replace("sha256:", VALIDATORS)


class Objects:
    """A prefix or an object in a bucket, such as `s3://bucket/mnist?endpoint=http://127.0.0.1:9000`."""

    def pin(self, source: str) -> Pin:
        """See Backend.pin; lists."""
        with _our_words(source):
            found = _listing(open_bucket(source))
        size_bytes = sum(each.size_bytes for each in found.objects)
        return Pin(source=source, digest=found.digest, size_bytes=size_bytes, file_name=found.file_name)

    def bring(self, dataset: Dataset, folder: Path, *, progress: Progress) -> None:
        """See Backend.bring; several pieces at once, each only if its object is still the one listed."""
        shutil.rmtree(folder)
        with _our_words(dataset.source):
            bucket = open_bucket(dataset.source)
            found = _listing(bucket)
            if dataset.digest.startswith(VALIDATORS) and found.digest != dataset.digest:
                raise changed(dataset.source, found=found.digest, pinned=dataset.digest)
            for each in found.objects:
                target = folder / each.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"")

            whole = _whole(bucket)

            def bring(piece: tuple[Object, int, int]) -> int:
                each, start, end = piece
                data = fetch(whole, each.key, start=start, end=end, etag=each.etag)
                with (folder / each.path).open("r+b") as file:
                    file.seek(start)
                    return file.write(data)

            for size_bytes in in_order(bring, _pieces(found)):
                progress(size_bytes)


def open_backend(_where: Where) -> Objects:
    """Return the backend; it needs nothing of this host."""
    return Objects()


def _pieces(found: Listing) -> Iterator[tuple[Object, int, int]]:
    for each in found.objects:
        step = part_bytes(each.size_bytes)
        for start in range(0, each.size_bytes, step):
            yield each, start, min(start + step, each.size_bytes)


def _whole(bucket: Bucket) -> Bucket:
    # Here keys are told whole, since the one object of a source is not below its prefix.
    return replace(bucket, prefix="")


def _listing(bucket: Bucket) -> Listing:
    below = sorted(_below(bucket), key=lambda each: each.path)
    if below:
        return Listing(objects=tuple(below))
    if not bucket.prefix:
        raise DatasetError(
            f"{bucket.uri} is empty", tip="put the data there, or correct the source in train.yml"
        )
    return _one(_whole(bucket), bucket.prefix.removesuffix("/"))


def _one(bucket: Bucket, key: str) -> Listing:
    try:
        with bucket.calling(f"looking at {key}"):
            head = bucket.client.head_object(**bucket.at(key))
    except NotFound as error:
        raise _missing(bucket, key) from error
    name = checked(key.rpartition("/")[2])
    only = Object(key=key, path=name, size_bytes=head["ContentLength"], etag=head["ETag"])
    return Listing(objects=(only,), file_name=name)


def _below(bucket: Bucket) -> Iterator[Object]:
    pages = bucket.client.get_paginator("list_objects_v2")
    with bucket.calling("listing"):
        for page in pages.paginate(Bucket=bucket.bucket, Prefix=bucket.prefix):
            for item in page.get("Contents", ()):
                # Consoles mark a folder by an empty object of its name.
                if not item["Key"].endswith("/"):
                    path = checked(item["Key"].removeprefix(bucket.prefix))
                    yield Object(key=item["Key"], path=path, size_bytes=item["Size"], etag=item["ETag"])


def _missing(bucket: Bucket, key: str) -> DatasetError:
    from runner.document import closest

    parent, _, name = key.rpartition("/")
    near = closest(name, bucket.children(f"{parent}/" if parent else ""))
    whole = f"s3://{bucket.bucket}/{parent}/{near}" if parent else f"s3://{bucket.bucket}/{near}"
    tip = f"did you mean {whole}?" if near else "put the data there, or correct the source in train.yml"
    return DatasetError(f"there is nothing at {bucket.uri}", tip=tip)


@contextmanager
def _our_words(source: str) -> Iterator[None]:
    try:
        yield
    except Conflict as error:
        raise DatasetError(f"{source} was changed while it was read: {error}", tip="run again") from error
    except StoreError as error:
        tip = "correct the source in train.yml" if "no bucket" in str(error) else error.tip
        raise DatasetError(f"{source}: {error}", tip=tip) from error
