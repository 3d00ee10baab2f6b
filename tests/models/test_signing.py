import base64
import dataclasses
import hashlib
import json
import logging
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from runner.errors import ModelError
from runner.models import ModelFile
from runner.models.provenance import statement
from runner.models.signatures import Signers, open_document
from runner.models.signing import keygen, public_key, sign
from tests.models.test_provenance import ORIGIN, VERSION
from tests.services.sigstore import ISSUER, Instance, serving

STATEMENT = statement(VERSION, ORIGIN)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keygen(tmp_path / "pushtrain.key")
    return tmp_path / "pushtrain.key"


@pytest.fixture
def instance() -> Iterator[Instance]:
    with serving(Instance()) as served:
        yield served


def environ(instance: Instance, tmp_path: Path, **more: str) -> dict[str, str]:
    return {**instance.environ, "PUSHTRAIN_SIGSTORE": str(instance.trust(tmp_path / "trust.json")), **more}


def test_without_identity_and_key_the_statement_stays_as_it_is() -> None:
    signed = sign(STATEMENT, environ={})

    assert (signed.kind, signed.document, signed.name) == ("none", STATEMENT, "provenance.json")
    assert (
        signed.note == "the statement is not signed: there is neither an identity nor PUSHTRAIN_SIGNING_KEY"
    )


def test_a_key_signs_an_envelope_with_the_statement_in_it(key: Path) -> None:
    signed = sign(STATEMENT, environ={"PUSHTRAIN_SIGNING_KEY": key.read_text()})

    assert (signed.kind, signed.name) == ("key", "provenance.intoto.jsonl")
    envelope = json.loads(signed.document)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == STATEMENT
    assert signed.document.count(b"\n") == 1
    opened = open_document(signed.document, Signers(key=key.with_suffix(".pub").read_bytes()))
    assert (opened.finding.ok, opened.payload) == (True, STATEMENT)


def test_a_key_may_lie_in_a_file_and_be_of_ed25519(tmp_path: Path) -> None:
    made = ed25519.Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(pem)

    signed = sign(STATEMENT, environ={"PUSHTRAIN_SIGNING_KEY_FILE": str(tmp_path / "key")})

    assert signed.kind == "key"


def encrypted() -> str:
    made = ed25519.Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PUSHTRAIN_SIGNING_KEY", "s3cret", "no private key in PEM"),
        ("PUSHTRAIN_SIGNING_KEY", encrypted(), "protected by a password"),
        ("PUSHTRAIN_SIGNING_KEY_FILE", "/nowhere/key", "/nowhere/key cannot be read"),
    ],
)
def test_a_key_that_cannot_be_used_loses_no_release(name: str, value: str, why: str) -> None:
    signed = sign(STATEMENT, environ={name: value})

    assert signed.kind == "none"
    assert why in signed.note
    assert "s3cret" not in signed.note


def test_an_identity_of_a_workflow_signs_through_sigstore(
    instance: Instance, tmp_path: Path, key: Path
) -> None:
    signed = sign(STATEMENT, environ=environ(instance, tmp_path, PUSHTRAIN_SIGNING_KEY=key.read_text()))

    assert (signed.kind, signed.name) == ("sigstore", "provenance.sigstore.json")
    assert instance.identity in signed.note
    assert instance.requests == [
        "/token?api-version=2.0&audience=sigstore",
        "/api/v2/signingCert",
        "/api/v1/log/entries",
    ]


@pytest.mark.parametrize(
    ("fault", "status"), [("/token", 500), ("/api/v2", 503), ("/api/v1", 502), ("/api/v2", 200)]
)
def test_where_sigstore_fails_the_key_signs_and_the_note_says_why(
    instance: Instance, tmp_path: Path, key: Path, fault: str, status: int
) -> None:
    instance.fault, instance.status = fault, status

    signed = sign(STATEMENT, environ=environ(instance, tmp_path, PUSHTRAIN_SIGNING_KEY=key.read_text()))

    assert signed.kind == "key"
    assert "; Sigstore: " in signed.note


def test_a_sigstore_that_never_answers_is_not_waited_for(instance: Instance, tmp_path: Path) -> None:
    instance.fault, instance.status = "/api/v2", 0
    started_s = time.monotonic()

    signed = sign(STATEMENT, environ=environ(instance, tmp_path), deadline_s=2)

    assert signed.kind == "none"
    assert "Sigstore did not answer within 2 s" in signed.note
    assert time.monotonic() - started_s < 20


def test_the_name_of_a_private_repository_is_not_told_to_a_public_log(
    instance: Instance, tmp_path: Path
) -> None:
    instance.visibility = "private"

    signed = sign(STATEMENT, environ={**environ(instance, tmp_path), "PUSHTRAIN_SIGSTORE": ""})

    assert signed.kind == "none"
    assert "the repository is private" in signed.note
    assert "PUSHTRAIN_SIGSTORE=public" in signed.note
    assert instance.requests == ["/token?api-version=2.0&audience=sigstore"]


def test_sigstore_can_be_turned_off(instance: Instance) -> None:
    assert sign(STATEMENT, environ={**instance.environ, "PUSHTRAIN_SIGSTORE": "off"}).kind == "none"
    assert instance.requests == []


def test_neither_key_nor_token_is_told(
    instance: Instance, tmp_path: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = key.read_text().splitlines()[1]
    instance.fault = "/api/v2"

    signed = sign(STATEMENT, environ=environ(instance, tmp_path, PUSHTRAIN_SIGNING_KEY=key.read_text()))

    told = caplog.text + signed.note + signed.document.decode()
    assert secret not in told
    assert "request-token" not in told


def test_a_new_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    public = keygen(tmp_path / "my.key")

    assert public == tmp_path / "my.pub"
    assert stat.S_IMODE((tmp_path / "my.key").stat().st_mode) == 0o600
    assert public_key(public.read_bytes(), where="it").scheme == "ecdsa-sha2-nistp256"


@pytest.mark.parametrize("there", ["my.key", "my.pub"])
def test_no_key_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")

    with pytest.raises(ModelError, match="is there already"):
        keygen(tmp_path / "my.key")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


def test_a_key_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        keygen(tmp_path / "nowhere" / "my.key")


def test_a_private_key_is_not_taken_for_a_public_one(key: Path) -> None:
    with pytest.raises(ModelError, match="is a private key"):
        public_key(key.read_bytes(), where="pushtrain.key")


# Read by others than the ones who wrote it


def test_a_bundle_is_verified_by_the_command_of_sigstore(instance: Instance, tmp_path: Path) -> None:
    content = b"graph"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    version = dataclasses.replace(VERSION, files=(ModelFile(path="model", size_bytes=5, digest=digest),))
    signed = sign(statement(version, ORIGIN), environ=environ(instance, tmp_path))
    (tmp_path / "model").write_bytes(content)
    (tmp_path / "bundle").write_bytes(signed.document)

    who = ["--cert-identity", instance.identity, "--cert-oidc-issuer", ISSUER]
    command = ["sigstore", "--trust-config", str(tmp_path / "trust.json"), "verify", "identity", *who]
    command = [sys.executable, "-m", *command, "--bundle", str(tmp_path / "bundle"), str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tmp_path / "model").write_bytes(b"grape")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_an_envelope_is_verified_by_openssl(key: Path, tmp_path: Path) -> None:
    envelope = json.loads(sign(STATEMENT, environ={"PUSHTRAIN_SIGNING_KEY": key.read_text()}).document)
    kind = envelope["payloadType"].encode()
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    (tmp_path / "said").write_bytes(
        b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(STATEMENT), base64.b64decode(envelope["payload"]))
    )
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))

    command = ["openssl", "dgst", "-sha256", "-verify", str(key.with_suffix(".pub"))]
    command += ["-signature", str(tmp_path / "signature"), str(tmp_path / "said")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "Verified OK\n"
