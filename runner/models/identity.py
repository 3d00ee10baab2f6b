"""A statement on stdin -> a Sigstore bundle on stdout, signed by the identity of this job of a workflow.

A program of its own (`python -m runner.models.identity`). At its end the last line of stderr is who signed, or why
it failed.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.models.signatures import signer

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig


def main() -> int:
    """Sign; returns the exit code. Raises whatever Sigstore raises: its last line says what it was."""
    from sigstore.dsse import Statement
    from sigstore.oidc import IdentityToken, detect_credential
    from sigstore.sign import SigningContext

    statement = Statement(sys.stdin.buffer.read())
    raw = detect_credential()
    if raw is None:
        return _say("this job has no identity; it needs the permission `id-token: write`", code=1)
    instance = os.environ.get("PUSHTRAIN_SIGSTORE", "")
    if not instance and (visibility := _visibility(raw)) not in ("", "public"):
        message = f"the repository is {visibility}, and the public log would tell its name"
        return _say(f"{message}; set PUSHTRAIN_SIGSTORE=public to sign all the same", code=1)
    token = IdentityToken(raw)
    with SigningContext.from_trust_config(trust(instance)).signer(token) as signing:
        bundle = signing.sign_dsse(statement)
    sys.stdout.buffer.write(bundle.to_json().encode())
    return _say(signer(bundle.signing_certificate), code=0)


def _say(line: str, *, code: int) -> int:
    sys.stderr.write(f"{line}\n")
    return code


def _visibility(token: str) -> str:
    """What the token says of the repository: public, private or internal; empty where it says nothing.

    https://docs.github.com/en/actions/reference/security/oidc
    """
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims.get("repository_visibility", ""))


def trust(instance: str) -> ClientTrustConfig:
    """The Sigstore to sign with: the public one, as its TUF repository says now, or that of a JSON file."""
    from sigstore.models import ClientTrustConfig

    if instance in ("", "public"):
        return ClientTrustConfig.production()
    return ClientTrustConfig.from_json(Path(instance).expanduser().read_text())


if __name__ == "__main__":
    sys.exit(main())
