import base64
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main
from runner.errors import ModelError
from runner.models import ModelFile, StoreShelf, Version, download, register
from runner.models.provenance import Origin, attest, statement
from runner.models.signatures import Finding, Signers
from runner.models.signing import keygen, sign
from runner.models.verification import Folder, Report, Wanted, verify
from runner.publish.document import DOCUMENT, document, dump_document
from runner.store import open_store
from tests.models import published
from tests.models.test_provenance import JOB, ORIGIN
from tests.models.test_registry import draft, put
from tests.services.sigstore import Instance, serving

FILES = {"saved_model.pb": b"graph", "variables/index": b"index", "empty": b""}


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A registered version, its files in a folder, its statement and the key that signed it."""

    shelf: StoreShelf
    version: Version
    folder: Path
    document: bytes
    key: Path

    @property
    def signers(self) -> Signers:
        return Signers(key=self.key.with_suffix(".pub").read_bytes(), key_name="pushtrain.pub")

    @property
    def wanted(self) -> Wanted:
        return Wanted(name="digits", number="1.0.0", version=self.version)

    def verify(self, **changes: Any) -> Report:
        """As it is, or with another document, version or signers."""
        wanted = dataclasses.replace(self.wanted, version=changes.get("version", self.version))
        return verify(
            changes.get("document", self.document),
            Folder(path=self.folder),
            wanted,
            changes.get("signers", self.signers),
            unsigned_ok=changes.get("unsigned_ok", False),
        )


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    store = open_store(tmp_path / "store")
    files = [put(store, tmp_path, path, content) for path, content in FILES.items()]
    version = register(store, draft(*files))
    key = tmp_path / "pushtrain.key"
    keygen(key)
    shelf = StoreShelf(store)
    made = attest(shelf, version, ORIGIN, {"PUSHTRAIN_SIGNING_KEY": key.read_text()})
    folder = download(shelf, version, tmp_path / "model")
    return Signed(shelf=shelf, version=version, folder=folder, document=made.document, key=key)


def only_fault(report: Report) -> Finding:
    (fault,) = report.faults
    assert fault.tip
    return fault


def resigned(signed: Signed, payload: bytes) -> bytes:
    return sign(payload, environ={"PUSHTRAIN_SIGNING_KEY": signed.key.read_text()}).document


def test_what_was_registered_and_signed_holds(signed: Signed) -> None:
    report = signed.verify()

    assert report.ok
    texts = [finding.text for finding in report.findings]
    assert texts[0].startswith("signed with pushtrain.pub (")
    assert texts[1] == f"statement and record agree: run run-1 of commit {'c' * 40}"
    assert texts[2] == f"all 3 files in {signed.folder} as registered, and nothing else"


# The files


def change(folder: Path) -> None:
    (folder / "variables/index").write_bytes(b"imdex")


def remove(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def remove_empty(folder: Path) -> None:
    (folder / "empty").unlink()


def add(folder: Path) -> None:
    (folder / "variables" / "evil.py").write_bytes(b"evil")


def link(folder: Path) -> None:
    (folder / "saved_model.pb").rename(folder.parent / "graph")
    (folder / "saved_model.pb").symlink_to(folder.parent / "graph")


def link_folder(folder: Path) -> None:
    (folder / "variables").rename(folder.parent / "moved")
    (folder / "variables").symlink_to(folder.parent / "moved")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (change, "variables/index was changed: it has sha256:"),
        (remove, "saved_model.pb is missing"),
        (remove_empty, "empty is missing"),
        (add, "variables/evil.py is no file of the model"),
        (link, "saved_model.pb is a link, not the file"),
        (link_folder, "variables is no file of the model"),
    ],
)
def test_a_file_that_is_not_as_it_was_is_named(
    signed: Signed, fault: Callable[[Path], None], text: str
) -> None:
    fault(signed.folder)

    found = only_fault(signed.verify())

    assert found.text.startswith(text)
    assert "pushtrain models download digits@1.0.0 NEW_FOLDER" in found.tip


def test_of_many_changed_files_some_are_named(signed: Signed) -> None:
    for number in range(30):
        (signed.folder / f"extra-{number:02}").write_bytes(b"")

    faults = signed.verify().faults

    assert len(faults) == 21
    assert faults[-1].text == "and 10 files more"


# The signature


def test_another_key_than_the_one_that_signed_is_told(signed: Signed, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other.key")

    found = only_fault(signed.verify(signers=Signers(key=other.read_bytes(), key_name="other.pub")))

    assert "signed with another key" in found.text
    assert "other.pub" in found.text


def test_without_a_key_nobody_counts(signed: Signed) -> None:
    found = only_fault(signed.verify(signers=Signers()))

    assert "none was given" in found.text
    assert "--key FILE" in found.tip


def edited(document: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """An envelope whose payload was changed after it was signed."""
    envelope = json.loads(document)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    edit(payload)
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(envelope).encode()


def claim_other_digest(payload: dict[str, Any]) -> None:
    payload["subject"][1]["digest"]["sha256"] = "0" * 64


def test_a_statement_that_was_changed_after_it_was_signed_is_told(signed: Signed) -> None:
    faults = signed.verify(document=edited(signed.document, claim_other_digest)).faults

    assert faults[0].text == "the statement was changed after it was signed"
    assert any("saved_model.pb was changed" in fault.text for fault in faults)


def test_an_envelope_of_something_else_is_no_statement(signed: Signed) -> None:
    envelope = {**json.loads(signed.document), "payloadType": "text/plain"}

    found = signed.verify(document=json.dumps(envelope).encode()).faults[0]

    assert "'text/plain'" in found.text


@pytest.mark.parametrize("cut", [10, 100, -20])
def test_a_document_that_was_cut_off_is_an_error(signed: Signed, cut: int) -> None:
    with pytest.raises(ModelError, match="no whole JSON document"):
        signed.verify(document=signed.document[:cut], unsigned_ok=True)


@pytest.mark.parametrize(
    "document",
    [
        b'{"payloadType": 1}',
        b'{"payloadType": "a", "payload": "%", "signatures": []}',
        b'{"payloadType": null}',
    ],
)
def test_a_document_that_is_none_is_an_error(signed: Signed, document: bytes) -> None:
    with pytest.raises(ModelError, match="no whole DSSE envelope"):
        signed.verify(document=document)


def test_an_unsigned_statement_is_refused_unless_that_is_asked_for(signed: Signed) -> None:
    bare = statement(signed.version, ORIGIN)

    assert "nobody signed" in only_fault(signed.verify(document=bare)).text
    allowed = signed.verify(document=bare, unsigned_ok=True)
    assert (allowed.ok, allowed.signed) == (True, False)


def test_without_a_statement_the_record_is_compared_if_that_is_asked_for(signed: Signed) -> None:
    assert "nobody signed digits@1.0.0" in only_fault(signed.verify(document=None)).text
    assert signed.verify(document=None, unsigned_ok=True).ok
    change(signed.folder)
    assert not signed.verify(document=None, unsigned_ok=True).ok


def test_that_unsigned_is_fine_excuses_no_wrong_signature(signed: Signed, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other.key")

    assert not signed.verify(signers=Signers(key=other.read_bytes()), unsigned_ok=True).ok


# What the statement is about


def test_the_statement_of_another_version_is_told(signed: Signed) -> None:
    replayed = resigned(signed, statement(dataclasses.replace(signed.version, version="0.9.0"), ORIGIN))

    found = only_fault(signed.verify(document=replayed))

    assert found.text == "the statement is about digits@0.9.0, not digits@1.0.0"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1", "a statement of another type"),
        ("predicateType", "https://slsa.dev/provenance/v0.2", "a statement of another predicate"),
        ("subject", [{"name": "a", "digest": {"md5": "0"}}], "subjects are not files with a sha256"),
        ("subject", "none", "subjects are not files with a sha256"),
        ("subject", [{"name": "a", "digest": {"sha256": "0"}}] * 2, "subjects are not files with a sha256"),
    ],
)
def test_a_statement_of_another_kind_is_told(signed: Signed, field: str, value: Any, text: str) -> None:
    payload = {**json.loads(statement(signed.version, ORIGIN)), field: value}

    faults = signed.verify(document=resigned(signed, json.dumps(payload).encode())).faults

    assert any(text in fault.text for fault in faults)


def test_a_statement_of_another_tool_is_told(signed: Signed) -> None:
    payload = json.loads(statement(signed.version, ORIGIN))
    payload["predicate"]["buildDefinition"]["buildType"] = "https://example.com/other"

    found = only_fault(signed.verify(document=resigned(signed, json.dumps(payload).encode())))

    assert "a statement of another build: https://example.com/other" in found.text


@pytest.mark.parametrize("payload", [b"[]", b"{}", b"text", b'{"predicate": [1]}'])
def test_a_payload_that_is_no_statement_is_told(signed: Signed, payload: bytes) -> None:
    assert not signed.verify(document=resigned(signed, payload)).ok


def lineage(version: Version, **changes: Any) -> Version:
    return dataclasses.replace(version, lineage=dataclasses.replace(version.lineage, **changes))


@pytest.mark.parametrize(
    ("changes", "noun"),
    [
        ({"run_id": "run-9"}, "run"),
        ({"commit": "d" * 40}, "commit"),
        ({"plan_hash": "q"}, "plan"),
        ({"inputs": {"rate": 0.2}}, "inputs"),
        ({"metrics": {"accuracy": 0.99}}, "metrics"),
        ({"data": ()}, "data and environment"),
    ],
)
def test_a_record_that_was_changed_since_is_told(signed: Signed, changes: dict[str, Any], noun: str) -> None:
    faults = signed.verify(version=lineage(signed.version, **changes)).faults

    assert any(fault.text.startswith(f"the {noun} of the registry's record") for fault in faults)


def test_a_record_with_another_digest_is_told_by_the_file(signed: Signed) -> None:
    forged = ModelFile(path="saved_model.pb", size_bytes=5, digest="sha256:" + "0" * 64)
    record = dataclasses.replace(signed.version, files=(forged, *signed.version.files[1:]))

    found = only_fault(signed.verify(version=record))

    assert "the files of the registry's record" in found.text
    assert "saved_model.pb: sha256:0000" in found.text


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_subject_outside_of_the_folder_is_not_looked_at(signed: Signed, name: str) -> None:
    payload = json.loads(statement(signed.version, ORIGIN))
    payload["subject"][0]["name"] = name

    faults = signed.verify(document=resigned(signed, json.dumps(payload).encode()), version=None).faults

    assert any("leaves the model's folder" in fault.text for fault in faults)


# Sigstore


@pytest.fixture
def instance() -> Iterator[Instance]:
    with serving(Instance()) as served:
        yield served


@pytest.fixture
def bundle(signed: Signed, instance: Instance, tmp_path: Path) -> bytes:
    environ = {**instance.environ, "PUSHTRAIN_SIGSTORE": str(instance.trust(tmp_path / "trust.json"))}
    made = sign(statement(signed.version, ORIGIN), environ=environ)
    assert made.kind == "sigstore", made.note
    return made.document


def trusted(tmp_path: Path, **who: str) -> Signers:
    return Signers(instance=str(tmp_path / "trust.json"), **who)  # type: ignore[arg-type]  # a test's brevity


def test_an_identity_may_be_one_workflow_or_any_of_a_repository(
    signed: Signed, bundle: bytes, instance: Instance, tmp_path: Path
) -> None:
    one = trusted(tmp_path, identity=instance.identity)
    any_of = trusted(tmp_path, repository="https://github.com/ann/digits")

    assert signed.verify(document=bundle, signers=one).ok
    assert signed.verify(document=bundle, signers=any_of).ok


@pytest.mark.parametrize(
    ("who", "text"),
    [
        ({"identity": "https://github.com/bob/digits/.github/workflows/train.yml@refs/heads/main"}, "SANs"),
        ({"repository": "https://github.com/bob/digits"}, "expected https://github.com/bob/digits"),
        ({"repository": "https://github.com/ann/digits", "issuer": "https://example.com"}, "OIDCIssuer"),
        ({"identity": Instance().identity, "issuer": "https://example.com"}, "OIDCIssuer"),
        ({}, "nobody was named who may"),
    ],
)
def test_another_identity_does_not_count(
    signed: Signed, bundle: bytes, tmp_path: Path, who: dict[str, str], text: str
) -> None:
    found = only_fault(signed.verify(document=bundle, signers=trusted(tmp_path, **who)))

    assert text in found.text
    assert "--identity" in found.tip


def test_an_identity_of_another_sigstore_does_not_count(
    signed: Signed, bundle: bytes, instance: Instance
) -> None:
    found = only_fault(signed.verify(document=bundle, signers=Signers(identity=instance.identity)))

    assert "does not count" in found.text


def test_a_bundle_whose_statement_was_changed_does_not_count(
    signed: Signed, bundle: bytes, instance: Instance, tmp_path: Path
) -> None:
    changed = json.loads(bundle)
    changed["dsseEnvelope"] = json.loads(
        edited(json.dumps(changed["dsseEnvelope"]).encode(), claim_other_digest)
    )

    report = signed.verify(
        document=json.dumps(changed).encode(), signers=trusted(tmp_path, identity=instance.identity)
    )

    assert "invalid signature" in report.faults[0].text


def test_a_bundle_without_its_log_entry_is_an_error(signed: Signed, bundle: bytes, tmp_path: Path) -> None:
    changed = json.loads(bundle)
    changed["verificationMaterial"]["tlogEntries"] = []

    with pytest.raises(ModelError, match="no whole Sigstore bundle"):
        signed.verify(document=json.dumps(changed).encode(), signers=trusted(tmp_path, identity="x"))


def test_a_model_that_another_repository_signed_is_told(
    signed: Signed, bundle: bytes, tmp_path: Path, instance: Instance
) -> None:
    instance.repository = "eve/digits"
    environ = {**instance.environ, "PUSHTRAIN_SIGSTORE": str(tmp_path / "trust.json")}
    made = sign(statement(signed.version, ORIGIN), environ=environ).document

    found = only_fault(signed.verify(document=made, signers=trusted(tmp_path, identity=instance.identity)))

    assert found.text == (
        "it says that the model is of https://github.com/ann/digits, and was signed in https://github.com/eve/digits"
    )


def test_a_published_statement_of_a_real_release_is_verified(tmp_path: Path) -> None:
    real = published.fetch(tmp_path)
    wanted = Wanted(name="pypi_attestations", number="0.0.19", version=None)

    report = verify(real.bundle, Folder(path=real.folder), wanted, Signers(identity=published.IDENTITY))

    assert report.signed
    assert "it is a statement of another build" in only_fault(report).text
    of_other = Signers(repository="https://github.com/trailofbits/other")
    assert not verify(real.bundle, Folder(path=real.folder), wanted, of_other).signed
    assert verify(
        real.bundle, Folder(path=real.folder), wanted, Signers(repository=published.REPOSITORY)
    ).signed


# The command


def run(signed: Signed, *arguments: str) -> int:
    return main(["models", "verify", "--store", signed.shelf.uri, *arguments])


def test_the_command_verifies_a_download_with_a_key(
    signed: Signed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(signed, "digits", str(signed.folder), "--key", str(signed.key.with_suffix(".pub"))) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == ["✓", "✓", "✓", "d"]
    assert lines[-1] == "digits@1.0.0 is what was registered"


def test_the_command_downloads_what_it_is_not_given(signed: Signed) -> None:
    assert run(signed, "digits@1.0.0", "--key", str(signed.key.with_suffix(".pub"))) == 0


def test_the_command_names_what_failed_and_ends_with_76(
    signed: Signed, capsys: pytest.CaptureFixture[str]
) -> None:
    change(signed.folder)

    assert run(signed, "digits@1.0.0", str(signed.folder)) == 76

    told = capsys.readouterr()
    assert "✗ variables/index was changed" in told.out
    assert "error: digits@1.0.0 is not verified: 2 of 3 checks failed" in told.err
    assert "tip: add --key FILE" in told.err


def test_the_command_says_so_where_nobody_signed(
    tmp_path: Path, signed: Signed, capsys: pytest.CaptureFixture[str]
) -> None:
    register(open_store(signed.shelf.uri), draft(*signed.version.files, run="run-2"))

    assert run(signed, "digits@1.1.0") == 76
    assert run(signed, "digits@1.1.0", "--unsigned-ok") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("as far as the registry says: nobody signed it")


@pytest.fixture
def release(signed: Signed, bundle: bytes, tmp_path: Path) -> Path:
    """The assets of a release as `gh release download` brings them: one folder, names without slashes."""
    made = document(signed.version, store_uri=signed.shelf.uri)
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / DOCUMENT).write_bytes(dump_document(made))
    (folder / "provenance.sigstore.json").write_bytes(bundle)
    for path, name in made.assets.items():
        (folder / name).write_bytes(FILES[path])
    return folder


def offline(*arguments: str, trust: Path) -> subprocess.CompletedProcess[str]:
    """The command in a network of its own, in which there is nothing."""
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "runner.cli", "models", "verify"]
    env = {**os.environ, "PUSHTRAIN_SIGSTORE": str(trust), "PUSHTRAIN_STORE": str(trust.parent / "none")}
    return subprocess.run([*command, *arguments], env=env, capture_output=True, text=True)


def test_a_release_that_was_downloaded_by_hand_is_verified_without_a_network(
    release: Path, tmp_path: Path
) -> None:
    done = offline("digits@1.0.0", str(release), "--repository", "ann/digits", trust=tmp_path / "trust.json")

    assert (done.returncode, done.stderr) == (0, "")
    (release / "variables.index").write_bytes(b"imdex")
    done = offline("digits@v1.0.0", str(release), "--repository", "ann/digits", trust=tmp_path / "trust.json")
    assert done.returncode == 76
    assert "✗ variables.index was changed" in done.stdout
    (release / "variables.index").unlink()
    done = offline("digits@1.0.0", str(release), "--repository", "ann/digits", trust=tmp_path / "trust.json")
    assert "✗ variables.index is missing" in done.stdout


def test_a_release_by_hand_needs_the_version_that_it_should_be(
    signed: Signed, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(signed, "digits", str(release)) == 64
    assert "pushtrain models verify digits@1.2.0" in capsys.readouterr().err


def test_a_statement_that_lies_here_is_taken(signed: Signed, tmp_path: Path) -> None:
    (tmp_path / "said.jsonl").write_bytes(signed.document)
    key = str(signed.key.with_suffix(".pub"))
    arguments = [str(signed.folder), "--statement", str(tmp_path / "said.jsonl"), "--key", key]

    assert run(signed, "digits@1.0.0", *arguments) == 0
    assert run(signed, "digits@1.0.1", *arguments) == 76


def test_a_folder_that_is_not_there_is_named(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(signed, "digits", "/nowhere") == 64
    assert "there is no folder /nowhere" in capsys.readouterr().err


def test_keys_made_by_the_command_sign_and_verify(
    signed: Signed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "keygen", str(tmp_path / "mine.key")]) == 0
    assert "gh secret set PUSHTRAIN_SIGNING_KEY" in capsys.readouterr().out
    version = register(open_store(signed.shelf.uri), draft(*signed.version.files, run="run-2"))
    attest(signed.shelf, version, Origin(), {**JOB, "PUSHTRAIN_SIGNING_KEY_FILE": str(tmp_path / "mine.key")})

    assert run(signed, "digits@1.1.0", "--key", str(tmp_path / "mine.pub")) == 0
    assert main(["models", "keygen", str(tmp_path / "mine.key")]) == 76


def test_a_version_that_nobody_signed_is_signed_by_hand(
    signed: Signed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(open_store(signed.shelf.uri), draft(*signed.version.files, run="20260101-000000-aaaa"))
    arguments = ["models", "sign", "digits@1.1.0", "--store", signed.shelf.uri]

    assert main(arguments) == 76
    assert "pushtrain models keygen" in capsys.readouterr().err
    monkeypatch.setenv("PUSHTRAIN_SIGNING_KEY_FILE", str(signed.key))
    assert main(arguments) == 0
    assert "digits@1.1.0: signed with the key" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "digits@1.1.0: signed before" in capsys.readouterr().out
    assert run(signed, "digits@1.1.0", "--key", str(signed.key.with_suffix(".pub"))) == 0
