"""A run that succeeded -> the model version that its plan promised."""

from __future__ import annotations

import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner import models, runs
from runner.errors import ModelError
from runner.models.provenance import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runner.manifest import Manifest
    from runner.plan import Plan, PlannedRelease
    from runner.store import Store


def register(
    store: Store, plan: Plan, run: runs.Run, manifest: Manifest, *, venv: Path | None
) -> models.Version:
    """Register the model version. Repeating it for the same run returns the same version. Raises ModelError."""
    assert plan.release is not None
    release = plan.release
    draft = models.Draft(
        name=release.model,
        bump=release.bump,
        framework=release.framework,
        framework_version=release.framework_version or framework_version(release.framework, plan, venv=venv),
        resources=models.Resources(cpu=release.cpu, memory_bytes=release.memory_bytes),
        files=_files(release, manifest),
        lineage=_lineage(plan, run),
        created_at_s=time.time(),
        after=release.after,
    )
    return models.register(store, draft)


def origin(plan: Plan, run: runs.Run) -> Origin:
    """What the statement of the run's version tells beyond the version, as far as plan and run know it."""
    asked = plan.asked
    branch = f"refs/heads/{asked.branch}" if asked.branch and not asked.fork else None
    return Origin(
        ref=f"refs/tags/{asked.tag}" if asked.tag else branch,
        trigger=asked.trigger,
        by=asked.by or None,
        engine=run.engine,
        started_at_s=run.created_at_s,
        finished_at_s=run.stages[-1].started_at_s if run.state.ended and run.stages else None,
    )


def _files(release: PlannedRelease, manifest: Manifest) -> tuple[models.ModelFile, ...]:
    root = PurePosixPath(release.path)
    files = tuple(
        models.ModelFile(path=_below(root, f.path), size_bytes=f.size_bytes, digest=f.digest)
        for f in manifest.files
        if PurePosixPath(f.path).is_relative_to(root)
    )
    if not files:
        there = sorted({str(PurePosixPath(*PurePosixPath(f.path).parts[:2])) for f in manifest.files})
        raise ModelError(
            f"release.path: the run wrote nothing to {release.path}",
            tip=f"it wrote {', '.join(there[:8]) or 'no outputs at all'}; name one of these, or write the model there",
        )
    return files


def _below(root: PurePosixPath, path: str) -> str:
    below = PurePosixPath(path).relative_to(root)
    return str(below) if below.parts else root.name


def _lineage(plan: Plan, run: runs.Run) -> models.Lineage:
    return models.Lineage(
        commit=plan.asked.commit,
        branch=plan.asked.branch,
        dirty=plan.asked.dirty,
        tree=plan.tree,
        plan_hash=plan.hash,
        run_id=run.id,
        environment=models.EnvironmentUsed(
            kind=plan.environment.kind, key=plan.environment.key, digest=run.environment_digest or None
        ),
        data=tuple(models.DataUsed(name=d.name, digest=d.digest) for d in plan.datasets),
        inputs=dict(plan.inputs),
        metrics=dict([run.metric] if run.metric else []),
        started_by=plan.asked.trigger,
    )


_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel"),
    "pytorch": ("torch",),
    "sklearn": ("scikit-learn",),
    "scikit-learn": ("scikit-learn",),
}


def framework_version(framework: str, plan: Plan, *, venv: Path | None) -> str | None:
    """The framework's version as installed in the venv, else as pinned in the image's recipe; None if neither tells."""
    names = _PACKAGES.get(framework.lower(), (framework,))
    if venv is not None:
        return _installed(names, venv)
    return _pinned(names, plan.environment.pip)


def _installed(names: Iterable[str], venv: Path) -> str | None:
    for name in names:
        stem = re.sub(r"[-_.]+", "_", name)
        for folder in venv.glob(f"lib/python*/site-packages/{stem}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return None


def _pinned(names: Iterable[str], requirements: Iterable[str]) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for line in requirements:
        try:
            requirement = Requirement(line.split(" --")[0])
        except InvalidRequirement:
            continue  # An option or a path: no release of a framework is pinned by these.
        exact = [s.version for s in requirement.specifier if s.operator == "=="]
        if canonicalize_name(requirement.name) in names and exact:
            return exact[0]
    return None
