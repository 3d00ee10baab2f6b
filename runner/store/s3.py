"""S3 as a store: keys are objects below the prefix, streams are segments, blobs are objects by their digest.

    PREFIX/runs/…                       keys, as they are called
    PREFIX/.streams/runs/…/0000…0812    segments of streams
    PREFIX/blobs/sha256/ab/ab12…        blobs

Conditional writes are S3's own:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from tenacity import retry, retry_if_exception, stop_after_attempt

from runner.errors import Conflict, NotFound
from runner.store import (
    RESERVED,
    STALE_S,
    Blob,
    BlobInfo,
    Progress,
    Versioned,
    checked_digest,
    checked_key,
)
from runner.store.s3_bucket import Bucket, error_code, open_bucket
from runner.store.s3_streams import ROOT as STREAMS
from runner.store.s3_streams import Streams
from runner.store.s3_transfer import (
    download,
    hash_of,
    metadata,
    read_whole,
    recorded_digest,
    upload,
)
from runner.store.transfer import check_digest, hash_file, whole_file

_BLOBS = "blobs/sha256/"
_COPY_LIMIT_BYTES = 5_000_000_000  # of one CopyObject request
_COPY_PART_BYTES = 512 << 20
_RACE_TRIES = 3


def open_store(uri: str) -> S3Store:
    """Opens `s3://bucket/prefix?endpoint=…&region=…&attempts=…`; nothing is asked of S3 yet."""
    return S3Store(open_bucket(uri))


class S3Store:
    """A Store in a bucket; safe between machines where S3 has conditional writes."""

    def __init__(self, bucket: Bucket, *, copy_limit_bytes: int = _COPY_LIMIT_BYTES) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._streams = Streams(bucket)
        self._copy_limit_bytes = copy_limit_bytes
        self.uri = bucket.uri

    def read(self, key: str) -> bytes:
        """See Store.read."""
        try:
            return read_whole(self._bucket, checked_key(key))[0]
        except NotFound:
            if not self._streams.exists(key):
                raise
            return self.tail(key, offset=0)

    def read_versioned(self, key: str) -> Versioned:
        """See Store.read_versioned; the version is the ETag."""
        data, etag = read_whole(self._bucket, checked_key(key))
        return Versioned(data=data, version=etag)

    def write(self, key: str, data: bytes) -> str:
        """See Store.write."""
        return self._put(key, data)

    def create(self, key: str, data: bytes) -> str:
        """See Store.create."""
        return self._put(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, *, version: str) -> str:
        """See Store.replace."""
        try:
            return self._put(key, data, IfMatch=version)
        except NotFound as error:
            raise Conflict(f"{key} was deleted by somebody else in {self.uri}") from error

    def delete(self, key: str) -> None:
        """See Store.delete."""
        with self._bucket.calling(f"deleting {key}"):
            self._client.delete_object(**self._bucket.at(checked_key(key)))
        self._streams.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """See Store.keys."""
        names = (entry.name for entry in self._bucket.entries(prefix))
        own = {name for name in names if name.partition("/")[0] not in RESERVED}
        return iter(sorted(own.union(self._streams.keys(prefix))))

    def children(self, folder: str) -> Iterator[str]:
        """See Store.children."""
        prefix = f"{checked_key(folder)}/" if folder else ""
        names = self._bucket.children(prefix) | self._bucket.children(STREAMS + prefix)
        return iter(sorted(names - (set() if folder else RESERVED)))

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        """See Store.append."""
        checked_key(key)
        if data:
            self._streams.append(key, data, offset=offset)

    def tail(self, key: str, *, offset: int) -> bytes:
        """See Store.tail."""
        return b"".join(self._streams.pieces(checked_key(key), offset=offset))

    def put_file(self, key: str, path: Path, *, progress: Progress | None = None) -> Blob:
        """See Store.put_file."""
        return upload(self._bucket, checked_key(key), path, progress=progress)

    def get_file(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        """See Store.get_file."""
        try:
            download(self._bucket, checked_key(key), path, progress=progress)
        except NotFound:
            if not self._streams.exists(key):
                raise
            self._get_stream(key, path, progress=progress)

    def put_blob(self, path: Path, *, digest: str | None = None, progress: Progress | None = None) -> Blob:
        """See Store.put_blob."""
        digest = digest or hash_file(path).digest
        if head := self._head(_blob_name(digest)):
            return Blob(digest=digest, size_bytes=head["ContentLength"])
        return upload(self._bucket, _blob_name(digest), path, digest=digest, progress=progress)

    def get_blob(self, digest: str, path: Path, *, progress: Progress | None = None) -> None:
        """See Store.get_blob."""
        download(self._bucket, _blob_name(digest), path, digest=digest, progress=progress)

    def read_blob(self, digest: str) -> bytes:
        """See Store.read_blob."""
        data, _ = read_whole(self._bucket, _blob_name(digest))
        check_digest(f"blob {digest} in {self.uri}", hash_of(data), digest)
        return data

    def has_blob(self, digest: str) -> bool:
        """See Store.has_blob."""
        return self._head(_blob_name(digest)) is not None

    def adopt(self, key: str, blob: Blob) -> None:
        """See Store.adopt; an object is copied inside S3, a stream is read and put once more."""
        if not self.has_blob(blob.digest):
            head = self._head(checked_key(key))
            recorded = recorded_digest(head["Metadata"]) if head else ""
            if head and recorded:
                check_digest(key, Blob(digest=recorded, size_bytes=head["ContentLength"]), blob.digest)
                self._copy(key, _blob_name(blob.digest), etag=head["ETag"])
            else:
                self._send_again(key, blob)
        self.delete(key)

    def blobs(self) -> Iterator[BlobInfo]:
        """See Store.blobs; `modified` is when the blob was uploaded; putting it again keeps that."""
        for entry in self._bucket.entries(_BLOBS):
            digest = f"sha256:{entry.name.rpartition('/')[2]}"
            yield BlobInfo(digest=digest, size_bytes=entry.size_bytes, modified=entry.modified)

    def delete_blob(self, digest: str) -> None:
        """See Store.delete_blob."""
        with self._bucket.calling(f"deleting {digest}"):
            self._client.delete_object(**self._bucket.at(_blob_name(digest)))

    def sweep(self, *, older_than_s: float = STALE_S) -> int:
        """See Store.sweep; ends multipart uploads, which S3 would else keep and charge for."""
        return self._bucket.abort_uploads(before=datetime.now(UTC) - timedelta(seconds=older_than_s))

    @retry(
        retry=retry_if_exception(lambda error: _is_race(error.__cause__)),
        stop=stop_after_attempt(_RACE_TRIES),
        reraise=True,
    )
    def _put(self, key: str, data: bytes, **condition: Any) -> str:
        """Puts a small object and returns its ETag; S3 may ask to repeat it, which is done."""
        place = self._bucket.at(checked_key(key))
        attempt = {**metadata(hash_of(data).digest), "attempt": uuid.uuid4().hex}
        try:
            with self._bucket.calling(f"writing {key}"):
                return self._client.put_object(**place, Body=data, Metadata=attempt, **condition)["ETag"]
        except Conflict:
            # an attempt whose answer was lost may have won, and the SDK's next one have met it
            head = self._head(key)
            if head and head["Metadata"].get("attempt") == attempt["attempt"]:
                return str(head["ETag"])
            raise

    def _head(self, name: str) -> dict[str, Any] | None:
        """Returns what S3 says of an object without reading it; None where there is none."""
        try:
            with self._bucket.calling(f"looking for {name}"):
                return dict(self._client.head_object(**self._bucket.at(name)))
        except NotFound:
            return None

    def _get_stream(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        with whole_file(path) as file:
            for data in self._streams.pieces(key, offset=0):
                file.write(data)
                if progress:
                    progress(len(data))

    def _copy(self, key: str, name: str, *, etag: str) -> None:
        from boto3.s3.transfer import TransferConfig

        source = self._bucket.at(key)
        how = TransferConfig(
            multipart_threshold=self._copy_limit_bytes,
            multipart_chunksize=min(_COPY_PART_BYTES, self._copy_limit_bytes),
        )
        with self._bucket.calling(f"copying {key}"):
            self._client.copy(
                {"Bucket": source["Bucket"], "Key": source["Key"]},
                **self._bucket.at(name),
                ExtraArgs={"CopySourceIfMatch": etag},
                Config=how,
            )

    def _send_again(self, key: str, blob: Blob) -> None:
        """Puts what cannot be copied inside S3, a stream or an object of others, as the blob."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "content")
            self.get_file(key, path)
            check_digest(key, hash_file(path), blob.digest)
            self.put_blob(path, digest=blob.digest)


def _is_race(error: BaseException | None) -> bool:
    return isinstance(error, ClientError) and error_code(error) == "ConditionalRequestConflict"


def _blob_name(digest: str) -> str:
    name = checked_digest(digest)
    return f"{_BLOBS}{name[:2]}/{name}"
