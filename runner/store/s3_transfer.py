"""A file <-> an S3 object: in parts, several at once, hashed on the way, whole or not at all."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from zlib import crc32

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from runner.store import Blob, Progress
from runner.store.s3_bucket import PARALLEL, Bucket
from runner.store.transfer import Hash, check_digest, check_unchanged, chunks, hash_file, reading, whole_file

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 << 20
_PART_LIMIT = 10_000  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_READ_TRIES = 5

Item = TypeVar("Item")
Result = TypeVar("Result")


def part_bytes(size_bytes: int) -> int:
    """Returns the size of the parts of an object: 8 MiB, or more where these would be too many."""
    return max(PART_BYTES, -(-size_bytes // _PART_LIMIT))


def in_order(call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields `call(item)` in the order of the items, a few under way at once; holds no more than these."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) == PARALLEL:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def upload(
    bucket: Bucket, name: str, path: Path, *, digest: str | None = None, progress: Progress | None = None
) -> Blob:
    """Puts a file at `name`, its sha256 in the metadata; nothing is there until all of it is.

    The bytes that are sent are hashed. Raises Conflict where they are not `digest`, or without one, where the
    file was rewritten between hashing and sending.
    """
    with reading(path) as (file, size_bytes), bucket.calling(f"storing {path}"):
        if size_bytes > PART_BYTES:
            expected = digest or hash_file(path, size_bytes).digest
            return _upload_parts(bucket, name, file, size_bytes, digest=expected, progress=progress)
        data = b"".join(chunks(file, size_bytes))
        blob = hash_of(data)
        check_unchanged(path, blob, digest or blob.digest)
        bucket.client.put_object(**bucket.at(name), Body=data, Metadata=metadata(blob.digest))
    if progress:
        progress(len(data))
    return blob


def _upload_parts(
    bucket: Bucket, name: str, file: BinaryIO, size_bytes: int, *, digest: str, progress: Progress | None
) -> Blob:
    place, hashed = bucket.at(name), Hash()
    begun = bucket.client.create_multipart_upload(
        **place, Metadata=metadata(digest), ChecksumAlgorithm="CRC32"
    )
    place["UploadId"] = begun["UploadId"]

    def send(part: tuple[int, bytes]) -> tuple[CompletedPartTypeDef, int]:
        number, data = part
        checksum = b64encode(crc32(data).to_bytes(4, "big")).decode()
        sent = bucket.bulk.upload_part(**place, PartNumber=number, Body=data, ChecksumCRC32=checksum)
        return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": checksum}, len(data)

    done: list[CompletedPartTypeDef] = []
    try:
        for part, sent_bytes in in_order(send, _numbered(file, size_bytes, hashed)):
            done.append(part)
            if progress:
                progress(sent_bytes)
        check_unchanged(Path(file.name), hashed.blob, digest)
        bucket.client.complete_multipart_upload(**place, MultipartUpload={"Parts": done})
    except BaseException:
        with suppress(ClientError, BotoCoreError):  # `sweep` does it later
            bucket.client.abort_multipart_upload(**place)
        raise
    return hashed.blob


def _numbered(file: BinaryIO, size_bytes: int, hashed: Hash) -> Iterator[tuple[int, bytes]]:
    for number, data in enumerate(chunks(file, size_bytes, chunk_bytes=part_bytes(size_bytes)), start=1):
        hashed.update(data)
        yield number, data


def download(
    bucket: Bucket, name: str, path: Path, *, digest: str | None = None, progress: Progress | None = None
) -> None:
    """Brings an object to `path`, whole or not at all, and verified: against `digest`, else its metadata.

    Raises NotFound, Corrupt, or Conflict where the object was replaced meanwhile.
    """
    with bucket.calling(f"reading {name}"):
        head = bucket.client.head_object(**bucket.at(name))
        size_bytes, etag = head["ContentLength"], head["ETag"]
        step = part_bytes(size_bytes)

        def get(start: int) -> bytes:
            return fetch(bucket, name, start=start, end=min(start + step, size_bytes), etag=etag)

        with whole_file(path) as file:
            hashed = Hash()
            for data in in_order(get, range(0, size_bytes, step)):
                hashed.update(data)
                file.write(data)
                if progress:
                    progress(len(data))
            expected = digest or recorded_digest(head["Metadata"])
            if expected:
                check_digest(f"{name} in {bucket.uri}", hashed.blob, expected)


def fetch(bucket: Bucket, name: str, *, start: int, end: int | None = None, etag: str = "") -> bytes:
    """Returns the bytes from `start` up to `end` (or all) of an object that has some; raises as `read_whole`.

    With `etag`, raises Conflict where the object has another one by now.
    """
    how: dict[str, Any] = {"IfMatch": etag} if etag else {}
    with bucket.calling(f"reading {name}"):
        return _get(bucket, name, Range=f"bytes={start}-{'' if end is None else end - 1}", **how)[0]


def read_whole(bucket: Bucket, name: str) -> tuple[bytes, str]:
    """Returns the content of a small object and its ETag; raises NotFound or StoreError."""
    with bucket.calling(f"reading {name}"):
        return _get(bucket, name)


@retry(
    retry=retry_if_exception_type((ReadTimeoutError, ResponseStreamingError, IncompleteReadError)),
    stop=stop_after_attempt(_READ_TRIES),
    reraise=True,
)
def _get(bucket: Bucket, name: str, **how: Any) -> tuple[bytes, str]:
    """The SDK tries again until an answer begins; this, until it is whole."""
    answer = bucket.client.get_object(**bucket.at(name), **how)
    with closing(answer["Body"]) as body:  # as a context manager it is another object, with other errors
        return body.read(), answer["ETag"]


def hash_of(data: bytes) -> Blob:
    """Returns the digest and size of some bytes."""
    hashed = Hash()
    hashed.update(data)
    return hashed.blob


def metadata(digest: str) -> dict[str, str]:
    """Returns the metadata of an object that has this digest."""
    return {"sha256": digest.removeprefix("sha256:")}


def recorded_digest(found: dict[str, str]) -> str:
    """Returns the digest in an object's metadata; empty where others put the object."""
    return f"sha256:{found['sha256']}" if "sha256" in found else ""
