"""An s3:// URI -> the bucket behind it: its client, its listings, and its failures in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as ConnectionFailed

from runner.errors import Conflict, NotFound, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARALLEL = 8
"""Requests that one transfer has under way at once."""

_OPTIONS = frozenset({"endpoint", "region", "attempts"})
_ATTEMPTS = 5
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_LOST = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})
_REFUSED = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_CREDENTIALS_TIP = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object of a listing; `name` is relative to the store's prefix, `modified` in seconds since 1970."""

    name: str
    size_bytes: int
    modified: float


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket and the prefix in it that is ours; names below are relative to that prefix.

    `bulk` is the client for large parts: it does not hash them once more for their signature. A checksum guards
    them on the way, and the sha256 of the whole is verified whenever it is read.
    """

    uri: str
    client: S3Client
    make_bulk: Callable[[], S3Client]
    bucket: str
    prefix: str

    @cached_property
    def bulk(self) -> S3Client:
        """The client for large parts, made when the first one is sent: it takes a while."""
        return self.make_bulk()

    def at(self, name: str) -> dict[str, Any]:
        """Returns the arguments that name an object in a request."""
        return {"Bucket": self.bucket, "Key": self.prefix + name}

    def entries(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Yields the objects whose names start with `prefix`, sorted; those behind the name `after` only."""
        behind: dict[str, Any] = {"StartAfter": self.prefix + after} if after else {}
        pages = self.client.get_paginator("list_objects_v2")
        with self.calling(f"listing {prefix}"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix, **behind):
                for item in page.get("Contents", ()):
                    yield Entry(
                        name=item["Key"][len(self.prefix) :],
                        size_bytes=item["Size"],
                        modified=item["LastModified"].timestamp(),
                    )

    def children(self, prefix: str) -> set[str]:
        """Returns the names directly below `prefix`, which is empty or ends with a slash."""
        names: set[str] = set()
        full = self.prefix + prefix
        pages = self.client.get_paginator("list_objects_v2")
        with self.calling(f"listing {prefix}"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=full, Delimiter="/"):
                names.update(item["Key"][len(full) :] for item in page.get("Contents", ()))
                names.update(item["Prefix"][len(full) : -1] for item in page.get("CommonPrefixes", ()))
        return names

    def delete(self, names: list[str]) -> None:
        """Removes objects, a thousand a request; safe to repeat."""
        with self.calling("deleting"):
            for first in range(0, len(names), 1000):
                batch = [{"Key": self.prefix + name} for name in names[first : first + 1000]]
                answer = self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": batch, "Quiet": True},  # type: ignore[typeddict-item]  # Key suffices
                )
                for fault in answer.get("Errors", ()):
                    raise StoreError(f"deleting {fault.get('Key')} in {self.uri}: {fault.get('Message')}")

    def abort_uploads(self, *, before: datetime) -> int:
        """Ends multipart uploads that were begun before a moment and never ended; returns how many."""
        aborted = 0
        pages = self.client.get_paginator("list_multipart_uploads")
        with self.calling("sweeping"):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        self.client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        aborted += 1
        return aborted

    @contextmanager
    def calling(self, doing: str) -> Iterator[None]:
        """Turns what the SDK raises into StoreError, NotFound or Conflict; `doing` is what was tried."""
        try:
            yield
        except ClientError as error:
            raise self._answered(error, doing) from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise StoreError(
                f"{doing}: no credentials for {self.uri} ({error})", tip=_CREDENTIALS_TIP
            ) from error
        except (HTTPClientError, ConnectionFailed) as error:
            endpoint = self.client.meta.endpoint_url
            tip = f"see whether it answers: curl -sI {endpoint}"
            raise StoreError(f"{doing}: {endpoint} cannot be reached ({error})", tip=tip) from error
        except BotoCoreError as error:
            raise StoreError(f"{doing} in {self.uri}: {error}") from error

    def _answered(self, error: ClientError, doing: str) -> StoreError:
        code, message = error_code(error), error.response.get("Error", {}).get("Message", "")
        if code in _ABSENT:
            return NotFound(f"{doing}: it is not in {self.uri}")
        if code in _LOST:
            return Conflict(f"{doing}: somebody else was first in {self.uri}")
        if code == "NoSuchBucket":
            return StoreError(
                f"{doing}: there is no bucket {self.bucket}",
                tip=f"aws s3 mb s3://{self.bucket}, or correct the URI",
            )
        if code in _REFUSED:
            return StoreError(f"{doing}: {self.uri} refuses ({code}: {message})", tip=_CREDENTIALS_TIP)
        return StoreError(f"{doing} in {self.uri}: {code}: {message}")


def error_code(error: ClientError) -> str:
    """Returns the code that S3 answered, such as NoSuchKey; an HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def open_bucket(uri: str) -> Bucket:
    """Parses `s3://bucket/prefix?endpoint=…&region=…&attempts=…`; nothing is asked of S3 yet.

    `attempts` is how often a request is tried in all (default 5, with growing waits in between).
    Raises StoreError for a malformed URI.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if not parts.netloc or options.keys() - _OPTIONS or not options.get("attempts", "1").isdigit():
        raise StoreError(
            f"{uri}: not a place in S3",
            tip="write s3://bucket/prefix?endpoint=https://host&region=name&attempts=5",
        )
    prefix = unquote(parts.path).strip("/")
    try:
        client = _client(options, sign_content=True)
    except (BotoCoreError, ValueError) as error:
        raise StoreError(f"{uri}: {error}", tip="correct the URI, or AWS_PROFILE") from error
    return Bucket(
        uri=uri,
        client=client,
        make_bulk=partial(_client, options, sign_content=False),
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
    )


def _client(options: dict[str, str], *, sign_content: bool) -> S3Client:
    endpoint = options.get("endpoint")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": int(options.get("attempts", _ATTEMPTS))},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=2 * PARALLEL,
        # other servers know neither bucket host names nor the SDK's trailing checksums; we have our own
        s3={"addressing_style": "path" if endpoint else "auto", "payload_signing_enabled": sign_content},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.Session()  # of its own: the default one is not safe between threads
    region = options.get("region") or session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
