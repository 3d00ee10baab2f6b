"""The join token: a file with one line -> what a machine needs to be of the fleet, its key included."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner import decoding
from runner.errors import Refused, UsageError
from runner.slurm.conf import Cluster

PREFIX = "pushtrain1."
KEY_BYTES = 128
MOST_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Token:
    """What the head gives to those who may join. `key` is munge's key in base64: never shown, logged or passed on.

    `slurm` and `pushtrain` are the head's versions when the token was written; with `serves_registry` the registry is
    the head's own, and asks for `registry_password`.
    """

    cluster: Cluster
    key: str
    store: str | None
    registry: str | None
    slurm: str
    pushtrain: str
    serves_registry: bool = False

    def __repr__(self) -> str:
        return f"Token(cluster={self.cluster.name!r}, head={self.cluster.head!r})"

    @property
    def key_bytes(self) -> bytes:
        """Munge's key."""
        return base64.b64decode(self.key)


def encode(token: Token) -> str:
    """The token as its one line."""
    return PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def decode(text: str, *, named: str) -> Token:
    """The token of a line; `named` is the file for the messages. Raises UsageError, which never shows the line."""
    line = text.strip()
    if not line.startswith(PREFIX):
        version = line.partition(".")[0]
        newer = version.startswith("pushtrain") and version[9:].isdigit()
        raise UsageError(
            f"{named} holds a token of another Pushtrain ({version})" if newer else f"{named} holds no token",
            tip="check out the head's commit of Pushtrain in the clone here, scripts/venv"
            if newer
            else _AGAIN,
        )
    body = line.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        token = decoding.from_json(raw, Token)
        if len(token.key_bytes) < hashlib.sha256().digest_size:
            raise ValueError("its key is too short")
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise UsageError(f"{named} holds a damaged token: it was cut or changed", tip=_AGAIN) from None
    return token


_AGAIN = "copy the file that `pushtrain agent token` names on the head once more, whole"


def read(path: Path) -> Token:
    """The token of a file. Raises Refused for a file that others can read, UsageError for one without a token."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"the token {path} cannot be read: {error.strerror}", tip=_AGAIN) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is a folder: expected the file with the token", tip=_AGAIN)
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise Refused(
                f"others on this machine can read the token {path}, and whoever has it is of the fleet",
                tip=f"chmod 600 {path}; if somebody may have read it: rm munge.key in the head's --state, start again",
            )
        return decode(file.read(MOST_BYTES), named=str(path))


def write(path: Path, token: Token) -> None:
    """Write the token for its owner alone, whole or not at all."""
    write_secret(path, encode(token).encode() + b"\n")


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    part.rename(path)


def metrics_token(key: bytes) -> str:
    """What a reader of `/metrics` shows; it opens nothing else."""
    return hmac.new(key, b"metrics", hashlib.sha256).hexdigest()


def registry_password(key: bytes) -> str:
    """What the registry on the head asks for: 64 hexadecimal digits. It opens nothing else."""
    return hmac.new(key, b"registry", hashlib.sha256).hexdigest()
