"""A small Sigstore on loopback, for its real client: tokens of GitHub's kind, Fulcio (v2), Rekor (v1), a CT log.

Certificates, signed certificate timestamps, log entries and checkpoints are real; the log has one entry a tree.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import rfc8785
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://token.actions.githubusercontent.com"
START = datetime(2020, 1, 1, tzinfo=UTC)
_EXTENSION = "1.3.6.1.4.1.57264.1."


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _text(oid: str, value: str, *, raw: bool = False) -> x509.UnrecognizedExtension:
    content = value.encode() if raw else asn1.encode_der(value)
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_EXTENSION + oid), content)


class Instance:
    """The keys of a Sigstore, and what it does. `repository` and `visibility` are those of the token it gives.

    `fault` is a path's beginning whose requests fail with `status`, or are never answered where that is 0.
    """

    def __init__(self, *, repository: str = "ann/digits", visibility: str = "public") -> None:
        self.repository = repository
        self.workflow = f"{repository}/.github/workflows/train.yml@refs/heads/main"
        self.visibility = visibility
        self.requests: list[str] = []
        self.fault = ""
        self.status = 503
        self.url = ""
        self.over = threading.Event()
        self._log = ec.generate_private_key(ec.SECP256R1())
        self._ct = ec.generate_private_key(ec.SECP256R1())
        self._ca = ec.generate_private_key(ec.SECP256R1())
        self._root = self._make_root()
        self._entries = 0

    @property
    def identity(self) -> str:
        """Who the certificates are for."""
        return f"https://github.com/{self.workflow}"

    @property
    def environ(self) -> dict[str, str]:
        """What GitHub gives a job with `id-token: write`."""
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-token",
        }

    def trust(self, path: Path) -> Path:
        """Writes the client's trust configuration."""
        since = {"validFor": {"start": START.isoformat().replace("+00:00", "Z")}}
        service = {"majorApiVersion": 1, "operator": "test", **since}
        name = {"organization": "test", "commonName": "test"}
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._known_log(self._log, since)],
            "ctlogs": [self._known_log(self._ct, since)],
            "certificateAuthorities": [
                {
                    "subject": name,
                    "uri": self.url,
                    "certChain": {
                        "certificates": [{"rawBytes": _b64(self._root.public_bytes(Encoding.DER))}]
                    },
                    **since,
                }
            ],
            "timestampAuthorities": [],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [{"url": self.url, **service}],
            "oidcUrls": [],
            "rekorTlogUrls": [{"url": self.url, **service}],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [],
            "tsaConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        path.write_text(json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": signing}))
        return path

    def _known_log(self, key: ec.EllipticCurvePrivateKey, since: dict[str, Any]) -> dict[str, Any]:
        public = {"rawBytes": _b64(_spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", **since}
        key_id = {"keyId": _b64(hashlib.sha256(_spki(key)).digest())}
        return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": key_id}

    def _make_root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        builder = builder.public_key(self._ca.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(START).not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        builder = builder.add_extension(_usage(certificates=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._ca.public_key()), critical=False
        )
        return builder.sign(self._ca, hashes.SHA256())

    # The token service of GitHub

    def token(self) -> dict[str, Any]:
        """A token for the audience `sigstore`."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": f"repo:{self.repository}:ref:refs/heads/main",
            "aud": "sigstore",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "repository": self.repository,
            "repository_visibility": self.visibility,
            "job_workflow_ref": self.workflow,
        }
        return {"value": jwt.encode(claims, "x" * 32, algorithm="HS256")}

    # Fulcio

    def certificate(self, token: str, request: dict[str, Any]) -> dict[str, Any]:
        """A certificate for the token's workflow, its timestamp of the CT log within."""
        claims = jwt.decode(token, "x" * 32, algorithms=["HS256"], audience="sigstore")
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        assert csr.is_signature_valid
        leaf = self._leaf(csr, claims)
        unstamped = leaf.sign(self._ca, hashes.SHA256())
        stamped = leaf.add_extension(self._stamp(unstamped), critical=False).sign(self._ca, hashes.SHA256())
        chain = [each.public_bytes(Encoding.PEM).decode() for each in (stamped, self._root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _leaf(self, csr: x509.CertificateSigningRequest, claims: dict[str, Any]) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        who = x509.UniformResourceIdentifier(f"https://github.com/{claims['job_workflow_ref']}")
        builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self._root.subject)
        builder = builder.public_key(csr.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(seconds=5)).not_valid_after(
            now + timedelta(minutes=10)
        )
        builder = builder.add_extension(_usage(certificates=False), critical=True)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([who]), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca.public_key()), critical=False
        )
        for extension in (
            _text("1", claims["iss"], raw=True),
            _text("8", claims["iss"]),
            _text("12", f"https://github.com/{claims['repository']}"),
        ):
            builder = builder.add_extension(extension, critical=False)
        return builder

    def _stamp(self, certificate: x509.Certificate) -> x509.UnrecognizedExtension:
        """RFC 6962, 3.2 and 3.3: the timestamp of a certificate that has none yet."""
        at_ms = int(time.time() * 1000)
        body = certificate.tbs_certificate_bytes
        entry = hashlib.sha256(_spki(self._ca)).digest() + len(body).to_bytes(3, "big") + body
        signed = struct.pack("!BBQH", 0, 0, at_ms, 1) + entry + struct.pack("!H", 0)
        signature = self._ct.sign(signed, ec.ECDSA(hashes.SHA256()))
        stamp = struct.pack("!B32sQH", 0, hashlib.sha256(_spki(self._ct)).digest(), at_ms, 0)
        stamp += struct.pack("!BBH", 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
        return x509.UnrecognizedExtension(oid, asn1.encode_der(listed))

    # Rekor

    def entry(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """The entry of a DSSE envelope, with its promise and its proof."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        body = rfc8785.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": _hash(content["envelope"].encode()),
                    "payloadHash": _hash(payload),
                    "signatures": [
                        {"signature": each["sig"], "verifier": content["verifiers"][0]}
                        for each in envelope["signatures"]
                    ],
                },
            }
        )
        self._entries += 1
        return {self._entries.to_bytes(32, "big").hex(): self._logged(body, index=self._entries)}

    def _logged(self, body: bytes, *, index: int) -> dict[str, Any]:
        key_id = hashlib.sha256(_spki(self._log)).digest()
        promised: dict[str, str | int] = {
            "body": _b64(body),
            "integratedTime": int(time.time()),
            "logID": key_id.hex(),
            "logIndex": index,
        }
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"test log\n1\n{_b64(root)}\n"
        signature = _b64(key_id[:4] + self._log.sign(note.encode(), ec.ECDSA(hashes.SHA256())))
        proof = {
            "logIndex": 0,
            "treeSize": 1,
            "rootHash": root.hex(),
            "hashes": [],
            "checkpoint": f"{note}\n\u2014 test {signature}\n",
        }
        promise = self._log.sign(rfc8785.dumps(promised), ec.ECDSA(hashes.SHA256()))
        return {**promised, "verification": {"inclusionProof": proof, "signedEntryTimestamp": _b64(promise)}}


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


class _Server(ThreadingHTTPServer):
    def __init__(self, instance: Instance) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.instance = instance


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(200, lambda _: self.server.instance.token())

    def do_POST(self) -> None:
        instance = self.server.instance
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.path == "/api/v2/signingCert":
            self._answer(200, lambda body: instance.certificate(bearer, body))
        elif self.path == "/api/v1/log/entries":
            self._answer(201, instance.entry)

    def _answer(self, status: int, made: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        instance = self.server.instance
        instance.requests.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if instance.fault and self.path.startswith(instance.fault):
            if not instance.status:
                instance.over.wait()
                return
            status, content = instance.status, b"{}"
        else:
            content = json.dumps(made(json.loads(body or b"{}"))).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(instance: Instance) -> Iterator[Instance]:
    """Serves until the block ends; sets `instance.url`."""
    server = _Server(instance)
    instance.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield instance
    finally:
        instance.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
