"""A version and where it was made -> an in-toto statement with SLSA provenance, and its place on a shelf."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.errors import Conflict
from runner.models import signing

if TYPE_CHECKING:
    from runner.models.shelf import Shelf
    from runner.models.version import DataUsed, Version

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:pushtrain:build-type:train:v1"
"""Says how the parameters are to be read; docs/signatures.md describes each."""

LOCAL_BUILDER = "urn:pushtrain:builder:local"
"""The builder of a run that a person started: whoever holds the key answers for it."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a statement tells beyond the version itself; None where nobody knows. Times are in unix seconds.

    `repository` and `job_url` are URLs, `ref` is such as refs/heads/main, `workflow` as GITHUB_WORKFLOW_REF has it:
    `OWNER/NAME/.github/workflows/FILE@REF`. `builder` is a URI: who ran the supervisor.
    """

    builder: str = LOCAL_BUILDER
    repository: str | None = None
    ref: str | None = None
    train_file: str | None = None
    trigger: str | None = None
    by: str | None = None
    engine: str | None = None
    workflow: str | None = None
    job_url: str | None = None
    started_at_s: float | None = None
    finished_at_s: float | None = None


def on_github(origin: Origin, environ: Mapping[str, str]) -> Origin:
    """`origin` with what the job of a workflow knows of itself; as it is where `environ` is no such job's.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    """
    server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    workflow = environ.get("GITHUB_WORKFLOW_REF")
    if environ.get("GITHUB_ACTIONS") != "true" or not (server and repository and workflow):
        return origin
    job = f"{server}/{repository}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}"
    return replace(
        origin,
        builder=f"{server}/{workflow}",
        repository=f"{server}/{repository}",
        workflow=workflow,
        job_url=f"{job}/attempts/{environ.get('GITHUB_RUN_ATTEMPT') or 1}",
    )


def attest(shelf: Shelf, version: Version, origin: Origin, environ: Mapping[str, str]) -> signing.Signed:
    """The statement of a version, signed and kept on the shelf; `note` says how, or why it is not signed.

    Repeating is safe: the first signed statement stays. One that nobody signed is not kept, so that a later attempt,
    with an identity or a key, still can. Blocks for a minute at most where Sigstore does not answer. Raises what the
    shelf raises.
    """
    if (before := _signed_before(shelf, version)) is not None:
        return before
    signed = signing.sign(statement(version, origin), environ=environ)
    if signed.kind != "none":
        try:
            shelf.add_statement(version, signed.document)
        except Conflict:
            return _signed_before(shelf, version) or signed
    return signed


def _signed_before(shelf: Shelf, version: Version) -> signing.Signed | None:
    there = shelf.statement(version)
    found = signing.Signed(document=there, note="signed before") if there is not None else None
    return found if found is not None and found.kind != "none" else None


def statement(version: Version, origin: Origin) -> bytes:
    """The statement about every file of a version: the same bytes for the same version and origin.

    An in-toto Statement v1 (https://in-toto.io/Statement/v1) with SLSA provenance v1
    (https://slsa.dev/spec/v1.1/provenance). What is not known is left out.
    """
    files = sorted(version.files, key=lambda file: file.path)
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file.path, "digest": _digests(file.digest)} for file in files],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _external(version, origin),
                "internalParameters": _internal(version, origin),
                "resolvedDependencies": _dependencies(version, origin),
            },
            "runDetails": _run_details(version, origin),
        },
    }
    return _json(document).encode()


def _external(version: Version, origin: Origin) -> dict[str, Any]:
    lineage = version.lineage
    return _known(
        model=version.name,
        source=_known(
            repository=_without_credentials(origin.repository),
            commit=lineage.commit,
            ref=origin.ref,
            branch=lineage.branch,
            trainFile=origin.train_file,
        ),
        inputs=_plain(lineage.inputs),
        trigger=origin.trigger or lineage.started_by,
        by=origin.by or None,
        workflow=origin.workflow,
    )


def _internal(version: Version, origin: Origin) -> dict[str, Any]:
    lineage = version.lineage
    return _known(
        version=version.version,
        run=lineage.run_id,
        planHash=lineage.plan_hash,
        tree=lineage.tree,
        dirty=lineage.dirty,
        engine=origin.engine,
        job=origin.job_url,
    )


def _dependencies(version: Version, origin: Origin) -> list[dict[str, Any]]:
    environment = version.lineage.environment
    digest = (environment.digest or "").rpartition("@")[2]
    used = _known(
        name="environment",
        uri=f"urn:pushtrain:environment:{environment.kind}:{environment.key}",
        digest=_digests(digest) if ":" in digest else None,
    )
    return [_source(version, origin), used, *(_data(each) for each in version.lineage.data)]


def _source(version: Version, origin: Origin) -> dict[str, Any]:
    """The commit that was trained; where uncommitted changes were trained, their tree, which no commit has."""
    lineage = version.lineage
    repository = _without_credentials(origin.repository)
    uri = f"git+{repository}" + (f"@{origin.ref}" if origin.ref else "") if repository else None
    clean = lineage.commit is not None and not lineage.dirty
    return _known(
        name="source",
        uri=uri,
        digest={"gitCommit": lineage.commit} if clean else {"gitTree": lineage.tree},
        annotations={"basedOn": lineage.commit} if lineage.commit and not clean else None,
    )


def _data(used: DataUsed) -> dict[str, Any]:
    """A data set by its digest; what a server merely says of the data (its ETags) is no digest of the content."""
    if used.digest.startswith("sha256:"):
        return {"name": used.name, "digest": _digests(used.digest)}
    return {"name": used.name, "uri": f"urn:pushtrain:data:{used.digest}"}


def _run_details(version: Version, origin: Origin) -> dict[str, Any]:
    from importlib.metadata import version as installed

    metrics = _json(_plain(version.lineage.metrics)).encode()
    return _known(
        builder={"id": origin.builder, "version": {"pushtrain": installed("pushtrain")}},
        metadata=_known(
            invocationId=version.lineage.run_id,
            startedOn=_rfc3339(origin.started_at_s),
            finishedOn=_rfc3339(origin.finished_at_s),
        ),
        byproducts=[
            {
                "name": "metrics",
                "mediaType": "application/json",
                "content": base64.b64encode(metrics).decode(),
            }
        ],
    )


def _digests(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _known(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _plain(values: Mapping[str, bool | float | str]) -> dict[str, bool | float | str]:
    """JSON has neither NaN nor infinities: they are written as the registry's own documents write them."""
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: bool | float | str) -> bool | float | str:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _rfc3339(at_s: float | None) -> str | None:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_s is not None else None


def _without_credentials(url: str | None) -> str | None:
    """An address as it may be told: git remotes carry tokens at times."""
    if url is None or "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
