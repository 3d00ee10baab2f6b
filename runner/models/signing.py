"""A statement -> a signed document: a Sigstore bundle, a DSSE envelope, or the statement as it is and why."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.errors import ModelError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

logger = logging.getLogger(__name__)

Kind = Literal["sigstore", "key", "none"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"

KEY = "PUSHTRAIN_SIGNING_KEY"
KEY_FILE = "PUSHTRAIN_SIGNING_KEY_FILE"
INSTANCE = "PUSHTRAIN_SIGSTORE"
"""`off`, `public` (also for a private repository) or the trust configuration of another Sigstore, a JSON file."""

SECRETS = (KEY, KEY_FILE)
"""Variables that no training may see."""

_IDENTITY = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
_NAMES: dict[Kind, str] = {
    "sigstore": "provenance.sigstore.json",
    "key": "provenance.intoto.jsonl",
    "none": "provenance.json",
}
NAMES = tuple(_NAMES.values())
"""Every name that a statement is given as a file."""

DEADLINE_S = 60.0

_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|ExpiredIdentity|ExpiredCertificate)")


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A statement as it is kept; `note` is a sentence: who signed it, or why nobody did."""

    document: bytes
    note: str

    @property
    def kind(self) -> Kind:
        """What signed it, as the document itself tells."""
        return kind_of(self.document)

    @property
    def name(self) -> str:
        """The name of the file."""
        return _NAMES[self.kind]


def kind_of(document: bytes) -> Kind:
    """What kind of signature a document carries; `none` also for what is no document at all."""
    try:
        parsed = json.loads(document)
    except ValueError:
        return "none"
    if not isinstance(parsed, dict):
        return "none"
    if "verificationMaterial" in parsed:
        return "sigstore"
    return "key" if "payloadType" in parsed else "none"


def sign(statement: bytes, *, environ: Mapping[str, str], deadline_s: float = DEADLINE_S) -> Signed:
    """The statement signed by Sigstore where `environ` has an identity, else by its key, else as it is.

    Never raises: what keeps it from being signed is in the note. Blocks for `deadline_s` at most. No key and no token
    is ever logged, and none is in the note.
    """
    failures = []
    for way in (_by_identity, _by_key):
        try:
            signed = way(statement, environ, deadline_s)
        except ModelError as error:
            failures.append(f"{error}" + (f" ({error.tip})" if error.tip else ""))
            continue
        if signed is not None:
            return Signed(document=signed.document, note="; ".join([signed.note, *failures]))
    reason = "; ".join(failures) or f"there is neither an identity nor {KEY}"
    logger.info("the statement is not signed: %s", reason)
    return Signed(document=statement, note=f"the statement is not signed: {reason}")


def _by_identity(statement: bytes, environ: Mapping[str, str], deadline_s: float) -> Signed | None:
    if environ.get(INSTANCE) == "off" or not all(environ.get(name) for name in _IDENTITY):
        return None
    if importlib.util.find_spec("sigstore") is None:
        raise ModelError("Sigstore is not installed", tip="pip install 'pushtrain[sigstore]'")
    # A process of its own: Sigstore's clients wait for ever, and fail with whatever their libraries raise.
    command = [sys.executable, "-m", "runner.models.identity"]
    env = {**os.environ, **environ, "GITHUB_ACTIONS": "true"}
    for name in SECRETS:
        env.pop(name, None)
    try:
        done = subprocess.run(command, input=statement, env=env, capture_output=True, timeout=deadline_s)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"Sigstore did not answer within {deadline_s:g} s") from error
    if done.returncode != 0:
        raise ModelError(f"Sigstore: {_last_line(done.stderr)}")
    return Signed(document=done.stdout, note=f"signed by {_last_line(done.stderr)} through Sigstore")


def _last_line(output: bytes) -> str:
    """What a program said last; of an exception of Python its message, or else its name."""
    lines = output.decode(errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else "it ended without a word"
    kind, colon, message = last.partition(": ")
    return (message if colon else kind.rpartition(".")[2]) if _EXCEPTION.fullmatch(kind) else last


def _by_key(statement: bytes, environ: Mapping[str, str], deadline_s: float) -> Signed | None:
    del deadline_s  # a key needs no network
    pem = _private_pem(environ)
    if pem is None:
        return None
    from securesystemslib.dsse import Envelope

    signer = _signer(pem)
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    document = json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return Signed(document=document, note=f"signed with the key {signer.public_key.keyid[:12]}")


def _private_pem(environ: Mapping[str, str]) -> bytes | None:
    if text := environ.get(KEY):
        return text.encode()
    if not (path := environ.get(KEY_FILE)):
        return None
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ModelError(f"{KEY_FILE}: {path} cannot be read: {error.strerror}") from error


def _signer(pem: bytes) -> CryptoSigner:
    """The signer of a private key. What `cryptography` says of a faulty key is not passed on: it may quote it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    tip = "pushtrain models keygen"
    try:
        return CryptoSigner(load_pem_private_key(pem, None))
    except TypeError as error:
        raise ModelError("the signing key is protected by a password", tip=tip) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ModelError("the signing key is no private key in PEM of ECDSA or Ed25519", tip=tip) from error


def public_key(pem: bytes, *, where: str) -> SSlibKey:
    """The public key of a PEM file; raises ModelError naming `where` for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    if b"PRIVATE KEY" in pem:
        raise ModelError(f"{where} is a private key", tip="name the public one, such as pushtrain.pub")
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ModelError(
            f"{where} is no public key in PEM", tip="pushtrain models keygen makes a pair"
        ) from error


def keygen(private: Path) -> Path:
    """Writes a new ECDSA P-256 key to `private`, for its owner alone, and returns the public one beside it (.pub).

    Raises ModelError where either is there already, and where it cannot be written; nothing is overwritten.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    public = private.with_suffix(".pub")
    if public == private:
        raise ModelError(f"{private} is the name of a public key", tip="name it pushtrain.key")
    signer = CryptoSigner.generate_ecdsa()
    key = load_pem_private_key(signer.private_bytes, None).public_key()
    _create(public, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), mode=0o644)
    try:
        _create(private, signer.private_bytes, mode=0o600)
    except ModelError:
        with suppress(OSError):  # it is of no use without the other
            public.unlink()
        raise
    return public


def _create(path: Path, content: bytes, *, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
    except FileExistsError as error:
        message = f"{path} is there already; what it signed could never be verified again without it"
        raise ModelError(message, tip="name another file: pushtrain models keygen FILE") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}", tip="name another file") from error
