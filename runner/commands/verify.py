"""`pushtrain models verify | sign | keygen`: is a model what was registered, and who says so."""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import shelf, workshop
from runner.errors import ModelError, UsageError
from runner.models import GITHUB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.models.provenance import Origin
    from runner.models.signatures import Signers
    from runner.models.verification import Folder, Report, Wanted


def verify(asked: argparse.Namespace) -> int:
    """Compare a version's files, its statement and the registry's record, and verify who signed.

    Raises ModelError where anything does not hold.
    """
    from runner.report.plain import plain

    with _gathered(asked) as (document, folder, wanted):
        report = _report(asked, document, folder, wanted)
    for finding in report.findings:
        print(f"{'✓' if finding.ok else '✗'} {plain(finding.text)}")
    if not report.ok:
        count = f"{len(report.faults)} of {len(report.findings)} checks failed"
        raise ModelError(f"{wanted.reference} is not verified: {count}", tip=plain(report.faults[0].tip))
    by = "" if report.signed else ", as far as the registry says: nobody signed it"
    print(f"{wanted.reference} is what was registered{by}")
    return 0


def _report(asked: argparse.Namespace, document: bytes | None, folder: Folder, wanted: Wanted) -> Report:
    from runner.commands.transfer import bar
    from runner.models import verification

    total = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    with bar(total) as advance:
        return verification.verify(
            document,
            folder,
            wanted,
            _signers(asked),
            unsigned_ok=asked.unsigned_ok,
            progress=advance,
        )


def _signers(asked: argparse.Namespace) -> Signers:
    from runner.models import signing
    from runner.models.signatures import GITHUB_ISSUER, Signers

    return Signers(
        key=_read(Path(asked.key)) if asked.key else None,
        key_name=asked.key or "the key",
        identity=asked.identity,
        issuer=asked.issuer or GITHUB_ISSUER,
        repository=_repository(asked),
        instance=os.environ.get(signing.INSTANCE, ""),
    )


def _repository(asked: argparse.Namespace) -> str | None:
    """The URL of the repository whose workflows may sign: the one that is named, or the registry itself."""
    named = asked.repository or _github(asked.store or "")
    if named is None or "://" in named:
        return named
    server = os.environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return f"{server}/{named}"


def _github(store: str) -> str | None:
    return store.removeprefix(GITHUB).strip("/") if store.startswith(GITHUB) else None


@contextmanager
def _gathered(asked: argparse.Namespace) -> Iterator[tuple[bytes | None, Folder, Wanted]]:
    """The statement, the files and what they should be; nothing is asked of the network where all of it lies here."""
    folder = Path(asked.folder) if asked.folder else None
    if folder is not None and not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", tip="pushtrain models download brings the files")
    lying = _lying(asked, folder)
    if folder is not None and lying is not None:
        yield _from_files(asked.model, folder, lying)
        return
    from runner import models
    from runner.models.verification import Folder, Wanted

    place = shelf(asked)
    version = models.find(place, asked.model)
    document = _read(lying) if lying else place.statement(version)
    wanted = Wanted(name=version.name, number=version.version, version=version)
    if folder is not None:
        yield document, Folder(path=folder), wanted
        return
    with tempfile.TemporaryDirectory(prefix="pushtrain-verify-") as scratch:
        yield document, Folder(path=models.download(place, version, Path(scratch) / version.name)), wanted


def _lying(asked: argparse.Namespace, folder: Path | None) -> Path | None:
    """The statement as a file: the one that is named, or the one of a release that was downloaded by hand."""
    from runner.publish.document import STATEMENTS

    if asked.statement:
        return Path(asked.statement)
    beside = [folder / name for name in STATEMENTS] if folder is not None else []
    return next((path for path in beside if path.is_file()), None)


def _from_files(reference: str, folder: Path, lying: Path) -> tuple[bytes, Folder, Wanted]:
    from runner.models.verification import Folder, Wanted
    from runner.publish.document import DOCUMENT, OURS, load_document

    name, _, number = reference.partition("@")
    number = number.removeprefix("v")
    if not number:
        raise UsageError(
            f"{reference}: which version should it be?", tip=f"pushtrain models verify {name}@1.2.0 {folder}"
        )
    aside = OURS | ({lying.name} if lying.parent.resolve() == folder.resolve() else frozenset())
    record = folder / DOCUMENT
    if not record.is_file():
        return _read(lying), Folder(path=folder, aside=aside), Wanted(name=name, number=number, version=None)
    made = load_document(_read(record), tag=f"{name}@v{number}", digest=None)
    here = Folder(path=folder, places=made.assets, aside=aside, lacks_empty=True)
    return _read(lying), here, Wanted(name=name, number=number, version=made.version)


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def sign(asked: argparse.Namespace) -> int:
    """Make the statement of a version, sign it with the identity or the key of the environment, and keep it.

    Safe to repeat: what is signed stays. Raises ModelError where there is nothing to sign with.
    """
    from runner import models
    from runner.models import provenance, signing

    place = shelf(asked)
    version = models.find(place, asked.model)
    origin = provenance.on_github(_origin(asked, version.lineage.run_id), os.environ)
    signed = provenance.attest(place, version, origin, os.environ)
    if signed.kind == "none":
        tip = f"set {signing.KEY_FILE} to a private key; pushtrain models keygen makes one"
        raise ModelError(f"{version.name}@{version.version}: {signed.note}", tip=tip)
    print(f"{version.name}@{version.version}: {signed.note}")
    return 0


def _origin(asked: argparse.Namespace, run_id: str) -> Origin:
    """What plan and run know, where they are kept here; nothing of what they would tell is needed to verify."""
    from runner import pipeline, release, runs
    from runner.errors import Corrupt, NotFound, RunNotFound
    from runner.models.provenance import Origin

    on_github = (asked.store or "").startswith(GITHUB)
    store = workshop(argparse.Namespace() if on_github else asked).store
    try:
        return release.origin(pipeline.plan_of(store, run_id), runs.load(store, run_id))
    except (NotFound, RunNotFound, Corrupt):
        return Origin()


def keygen(asked: argparse.Namespace) -> int:
    """Write a new pair of keys."""
    from runner.models import signing

    private = Path(asked.file)
    public = signing.keygen(private)
    print(f"{private} signs: keep it secret, and out of the repository")
    print(f"{public} verifies: commit it, and give it to whoever uses your models")
    print(f"on GitHub:  gh secret set {signing.KEY} < {private}")
    print(f"here:       export {signing.KEY_FILE}={private.absolute()}")
    print(f"verify:     pushtrain models verify NAME@VERSION --key {public}")
    return 0
