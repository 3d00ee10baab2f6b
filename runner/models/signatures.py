"""A signed document and whom to trust -> the statement in it and whether they signed it, without a network."""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import ModelError
from runner.models import signing

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify.policy import VerificationPolicy

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
"""Who issues the identities of workflows on github.com."""

# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_ISSUER_OID = "1.3.6.1.4.1.57264.1.8"
_REPOSITORY_OID = "1.3.6.1.4.1.57264.1.12"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: whether it holds, what was found, and what to do where it does not."""

    ok: bool
    text: str
    tip: str = ""


@dataclass(frozen=True, kw_only=True)
class Signers:
    """Whose signature counts: the holder of a key (`key` is its public PEM), or an identity of Sigstore.

    An identity is one exactly (a workflow with its ref, an e-mail address), or any workflow of `repository`, a URL.
    `instance` is a Sigstore's trust configuration, a JSON file; empty for the public one.
    """

    key: bytes | None = None
    key_name: str = "the key"
    identity: str | None = None
    issuer: str = GITHUB_ISSUER
    repository: str | None = None
    instance: str = ""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The statement of a document and the finding on its signature; `repository` is the signer's, where it has one."""

    payload: bytes
    finding: Finding
    repository: str | None = None


def open_document(document: bytes, signers: Signers) -> Opened:
    """Takes a document apart and verifies its signature.

    A signature that does not count is a finding. Raises ModelError where the document cannot be read at all, where
    `signers` has a key that is none, and where Sigstore is needed and not installed.
    """
    kind = signing.kind_of(document)
    if kind == "sigstore":
        return _sigstore(document, signers)
    if kind == "key":
        return _envelope(document, signers)
    try:
        json.loads(document)
    except ValueError as error:
        raise ModelError("the statement is no whole JSON document", tip=_SIGN_AGAIN) from error
    return Opened(
        payload=document, finding=Finding(ok=False, text="nobody signed the statement", tip=_UNSIGNED)
    )


_UNSIGNED = "--unsigned-ok compares the files with it all the same"
_SIGN_AGAIN = "the statement is damaged or was changed: get it again, from where the version was published"


def _envelope(document: bytes, signers: Signers) -> Opened:
    """A DSSE envelope. Any signature may be the one of the key: key ids are hints (DSSE, section 4.2.2)."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature

    try:
        parsed = json.loads(document)
        payload = base64.b64decode(parsed["payload"], validate=True)
        envelope = Envelope(payload, parsed["payloadType"], {})
        signatures = [
            Signature(str(each.get("keyid", "")), base64.b64decode(each["sig"], validate=True).hex())
            for each in parsed["signatures"]
        ]
        pae = envelope.pae()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("the statement is no whole DSSE envelope", tip=_SIGN_AGAIN) from error
    if envelope.payload_type != signing.PAYLOAD_TYPE:
        return Opened(payload=payload, finding=_other_payload(envelope.payload_type))
    by = ", ".join(sorted({each.keyid[:12] for each in signatures})) or "nobody"
    if signers.key is None:
        text = f"it is signed with a key ({by}), and none was given to compare with"
        return Opened(
            payload=payload,
            finding=Finding(ok=False, text=text, tip="add --key FILE, the public key of whoever may sign"),
        )
    key = signing.public_key(signers.key, where=signers.key_name)
    for signature in signatures:
        try:
            key.verify_signature(signature, pae)
        except UnverifiedSignatureError:
            continue
        text = f"signed with {signers.key_name} ({key.keyid[:12]})"
        return Opened(payload=payload, finding=Finding(ok=True, text=text))
    return Opened(payload=payload, finding=_not_by(key.keyid, by, signers))


def _not_by(keyid: str, by: str, signers: Signers) -> Finding:
    if keyid[:12] in by:
        return Finding(ok=False, text="the statement was changed after it was signed", tip=_SIGN_AGAIN)
    return Finding(
        ok=False,
        text=f"it is signed with another key ({by}) than {signers.key_name} ({keyid[:12]})",
        tip="--key FILE with the public key of who signed it, if you trust them",
    )


def _other_payload(kind: str) -> Finding:
    return Finding(ok=False, text=f"what is signed is {kind!r}, and no in-toto statement", tip=_SIGN_AGAIN)


def _sigstore(document: bytes, signers: Signers) -> Opened:
    if importlib.util.find_spec("sigstore") is None:
        raise ModelError(
            "it is signed through Sigstore, which is not installed", tip="pip install 'pushtrain[sigstore]'"
        )
    from sigstore.errors import Error
    from sigstore.models import Bundle

    try:
        bundle = Bundle.from_json(document)
        payload = base64.b64decode(json.loads(document)["dsseEnvelope"]["payload"], validate=True)
    except (Error, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the statement is no whole Sigstore bundle with a statement", tip=_SIGN_AGAIN
        ) from error
    who = signer(bundle.signing_certificate)
    policy = _policy(signers)
    if policy is None:
        text = f"it is signed by {who}, and nobody was named who may"
        tip = f"--identity {who.partition(' ')[0]}, if that is who should have signed it"
        return Opened(payload=payload, finding=Finding(ok=False, text=text, tip=tip))
    finding = _verified(bundle, policy, who, trusted_root(signers.instance))
    return Opened(
        payload=payload, finding=finding, repository=_extension(bundle.signing_certificate, _REPOSITORY_OID)
    )


def _policy(signers: Signers) -> VerificationPolicy | None:
    from sigstore.verify import policy

    if signers.identity:
        return policy.Identity(identity=signers.identity, issuer=signers.issuer)
    if signers.repository:
        issuer = policy.OIDCIssuer(signers.issuer)
        return policy.AllOf([issuer, policy.OIDCSourceRepositoryURI(signers.repository)])
    return None


def _verified(bundle: Bundle, policy: VerificationPolicy, who: str, root: TrustedRoot) -> Finding:
    from cryptography.x509 import ExtensionNotFound
    from sigstore.errors import Error
    from sigstore.verify import Verifier

    try:
        kind, _ = Verifier(trusted_root=root).verify_dsse(bundle, policy)
    except (Error, ExtensionNotFound, ValueError) as error:
        text = f"the signature of {who} does not count: {error}"
        return Finding(ok=False, text=text, tip=_SIGSTORE_TIP)
    if kind != signing.PAYLOAD_TYPE:
        return _other_payload(kind)
    entry = bundle.log_entry._inner
    return Finding(ok=True, text=f"signed by {who}, entry {entry.log_index} of the transparency log")


_SIGSTORE_TIP = (
    "--identity X --issuer Y name who may sign; if Sigstore's keys have changed since:"
    " python -m sigstore plumbing update-trust-root"
)


def trusted_root(instance: str) -> TrustedRoot:
    """The keys and certificates of a Sigstore, from this machine alone; raises ModelError where they cannot be read."""
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    # It warns that it does not ask the network, which is what is wanted.
    logging.getLogger("sigstore._internal.tuf").setLevel(logging.ERROR)
    try:
        if instance in ("", "public", "off"):
            return ClientTrustConfig.production(offline=True).trusted_root
        return ClientTrustConfig.from_json(Path(instance).expanduser().read_text()).trusted_root
    except (Error, OSError, ValueError) as error:
        where = instance or "the public Sigstore"
        raise ModelError(
            f"the trust configuration of {where} cannot be read: {error}",
            tip=f"set {signing.INSTANCE} to its file, or unset it for the public one",
        ) from error


def signer(certificate: Certificate) -> str:
    """The identity in a certificate and its issuer, in words; not verified."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "somebody without a name"
    found = [
        *names.get_values_for_type(x509.UniformResourceIdentifier),
        *names.get_values_for_type(x509.RFC822Name),
    ]
    issuer = _extension(certificate, _ISSUER_OID)
    return (found[0] if found else "somebody without a name") + (f" (issuer {issuer})" if issuer else "")


def _extension(certificate: Certificate, oid: str) -> str | None:
    """The text of one of Fulcio's extensions; None where there is none."""
    from cryptography.hazmat import asn1
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier

    try:
        value: Any = certificate.extensions.get_extension_for_oid(ObjectIdentifier(oid)).value
        return str(asn1.decode_der(str, value.value))
    except (ExtensionNotFound, ValueError):
        return None
