"""The join token -> an object in S3 for one launch, and what the machine runs to read it once and see that it is gone.

Every training on a machine can read its user data, so what stands there must open nothing by the time one runs there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from runner.errors import EngineError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, kw_only=True)
class Urls:
    """Where one launch reads the token, and where it removes it: the same object, each signed for some minutes."""

    read: str
    remove: str


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The objects of one fleet below `folder` (`s3://bucket/prefix`), each named by its launch's nonce."""

    s3: S3Client
    folder: str
    cluster: str

    def put(self, nonce: str, content: bytes, *, seconds: int) -> Urls:
        """Returns the URLs of the object that it makes. Safe to repeat. Raises EngineError.

        The first removal is of nothing: a head that may not remove what it puts is told so before a machine starts,
        which would wait for that in vain.
        """
        self.remove(nonce)
        bucket, key = self._at(nonce)
        at = {"Bucket": bucket, "Key": key}
        with self._calling("putting"):
            self.s3.put_object(Bucket=bucket, Key=key, Body=content, ServerSideEncryption="AES256")
            read = self.s3.generate_presigned_url("get_object", Params=at, ExpiresIn=seconds)
            remove = self.s3.generate_presigned_url("delete_object", Params=at, ExpiresIn=seconds)
        return Urls(read=read, remove=remove)

    def remove(self, nonce: str) -> None:
        """Safe to repeat. Raises EngineError."""
        bucket, key = self._at(nonce)
        with self._calling("removing"):
            self.s3.delete_object(Bucket=bucket, Key=key)

    def _at(self, nonce: str) -> tuple[str, str]:
        bucket, _, prefix = self.folder.removeprefix("s3://").partition("/")
        return bucket, "/".join(filter(None, (prefix.strip("/"), self.cluster, nonce)))

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        tip = f"give this head's role s3:PutObject, s3:GetObject and s3:DeleteObject below {self.folder}"
        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            why = f"S3 says {said.get('Code', '?')}: {said.get('Message', '')[:200]}"
            raise EngineError(f"{doing} the join token: {why}", tip=tip) from error
        except BotoCoreError as error:
            raise EngineError(f"{doing} the join token: {error}", tip=tip) from error


def fetching(urls: Urls, *, to: str) -> str:
    """Shell lines that bring the token, and go on only when nobody reads it by the URLs any more. Safe to repeat."""
    path, part = shlex.quote(to), shlex.quote(f"{to}.part")
    read, remove = shlex.quote(urls.read), shlex.quote(urls.remove)
    return (
        "umask 077\n"
        f"[ -s {path} ] || {{ curl --fail --silent --show-error --retry 20 --retry-all-errors --max-time 30 "
        f"-o {part} {read} && mv {part} {path}; }} || exit 1\n"
        # S3 refuses (403) rather than to say that there is none (404) where the signer may not list.
        f"until curl --silent --max-time 30 --write-out '%{{http_code}}' -o /dev/null {read} | grep -q '^40[34]$'; do\n"
        f"  curl --silent --show-error --max-time 30 --request DELETE -o /dev/null {remove}\n"
        "  sleep 1\n"
        "done\n"
    )
