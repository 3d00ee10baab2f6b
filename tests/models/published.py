"""A statement that somebody else published: SLSA provenance of a real release, signed by its workflow on GitHub.

It lies in the source distribution of pypi-attestations, beside the file that it is about.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

_VERSION = "0.0.30"
_SUBJECT = "pypi_attestations-0.0.19.tar.gz"
IDENTITY = "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"
REPOSITORY = "https://github.com/trailofbits/pypi-attestations"


@dataclass(frozen=True, kw_only=True)
class Published:
    """The bundle, and a folder with the one file that it is about."""

    bundle: bytes
    folder: Path


def fetch(folder: Path) -> Published:
    """Brings it from the package index, or from what an earlier test kept."""
    assets = f"pypi_attestations-{_VERSION}/test/assets"
    with tarfile.open(_distribution()) as archive:
        for name in (_SUBJECT, f"{_SUBJECT}.slsa.attestation"):
            member = archive.extractfile(f"{assets}/{name}")
            assert member is not None
            (folder / name).write_bytes(member.read())
    attestation = folder / f"{_SUBJECT}.slsa.attestation"
    bundle = _bundle(json.loads(attestation.read_text()))
    attestation.unlink()
    return Published(bundle=bundle, folder=folder)


def _distribution() -> Path:
    cache = Path(os.environ.get("PUSHTRAIN_TEST_CACHE") or Path.home() / ".cache" / "pushtrain-tests")
    kept = cache / "pypi-attestations" / f"pypi_attestations-{_VERSION}.tar.gz"
    if not kept.is_file():
        name = "pypi-attestations"
        download = ["uv", "tool", "run", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
        done = subprocess.run(
            [*download, f"{name}=={_VERSION}", "--dest", str(kept.parent)], capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.fail(f"{name} {_VERSION} cannot be downloaded: {done.stderr[-2000:]}")
    return kept


def _bundle(attestation: dict[str, dict[str, object]]) -> bytes:
    """PEP 740's attestation as the Sigstore bundle that it was made of."""
    material, envelope = attestation["verification_material"], attestation["envelope"]
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": material["certificate"]},
                "tlogEntries": material["transparency_entries"],
                "timestampVerificationData": {"rfc3161Timestamps": []},
            },
            "dsseEnvelope": {
                "payload": envelope["statement"],
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": envelope["signature"]}],
            },
        }
    ).encode()
