"""Output of a failed uv, apt or build -> the package and line to change, and a few lines of reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from runner.environment.origin import Origin
from runner.errors import EnvironmentFailed

_REASON_LINES = 3
_MAX_NAMED = 3
_BUILDKIT = re.compile(r"^#\d+ (?:\d+\.\d+ )?")
_UV_ERROR = re.compile(r"^\s*(?:error:|\u00d7)\s*(?P<text>.+)")
_UV_CAUSE = re.compile(r"^\s*(?:cause:|[├╰]─▶)\s*(?P<text>.+)")
_APT = re.compile(
    r"^E: (?:Unable to locate package|Version '.*?' for|Package|Couldn't find any package by \w+)"
    r" '?(?P<name>[^\s']+)"
)
_FIRST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TIPS = (
    ("is not available for", "take another release of it, or another Python in environment.base"),
    ("failed to build", "take a release that has a wheel, or add what it needs to build to environment.apt"),
    ("only the following versions", "take one of the versions that exist"),
    ("there is no version of", "take a version that exists: https://pypi.org/project/NAME/#history"),
    ("not found in the package registry", "correct the name, or name its index by --extra-index-url"),
    ("not found in the provided", "correct the name, or name its index by --extra-index-url"),
    ("depends on", "take versions that go together, or leave one of them open"),
    ("unsatisfiable", "take versions that go together, or leave one of them open"),
    ("hash", "correct the --hash of that line"),
    ("parse", "write it as `name==version`"),
    ("failed to fetch", "check the network and the index, then run the command again"),
    ("request failed", "check the network and the index, then run the command again"),
)


def pip_failure(lines: Iterable[str], origins: Sequence[Origin]) -> EnvironmentFailed:
    """What to raise where uv failed: every line of ours that its reason speaks of, named with its place."""
    reason = _uv_reason([_BUILDKIT.sub("", line) for line in lines])
    text = " ".join(reason)
    guilty = _guilty(text, origins)
    first = _named(guilty[0].line) if guilty else "NAME"
    tip = next((tip for words, tip in _TIPS if words in text.lower()), "pushtrain logs shows the whole build")
    return _failure(guilty, reason, tip=tip.replace("NAME", first))


def apt_failure(lines: Iterable[str], origins: Sequence[Origin]) -> EnvironmentFailed | None:
    """What to raise where apt-get refused a package; None where it did not."""
    said = [_BUILDKIT.sub("", line) for line in lines]
    found = [(line, match["name"]) for line in said if (match := _APT.match(line))]
    if not found:
        return None
    names = {name for _, name in found}
    guilty = [origin for origin in origins if origin.line.split("=")[0].split("/")[0] in names]
    reasons = list(dict.fromkeys(line.removeprefix("E: ") for line, _ in found))[:_REASON_LINES]
    return _failure(guilty, reasons, tip=f"correct the name; apt-cache search {min(names)} in the base image")


def _failure(guilty: Sequence[Origin], reason: Sequence[str], *, tip: str) -> EnvironmentFailed:
    places = [f"{origin.where}: {origin.line} cannot be installed" for origin in guilty[:_MAX_NAMED]]
    head = places or ["the packages cannot be installed"]
    return EnvironmentFailed("\n".join([*head, *(f"  {line}" for line in reason)]), tip=tip)


def _uv_reason(lines: Sequence[str]) -> list[str]:
    start = next((n for n, line in enumerate(lines) if _UV_ERROR.match(line)), None)
    if start is None:
        return [line.strip() for line in lines if line.strip()][-_REASON_LINES:]
    causes = list(_causes(lines[start + 1 :]))
    # What was done, why that failed, and what was at the bottom of it; the links between say little.
    told = [_UV_ERROR.sub(r"\g<text>", lines[start]).strip(), *causes[:1], *causes[-1:]]
    return list(dict.fromkeys(told))


def _causes(lines: Sequence[str]) -> Iterator[str]:
    """uv's causes, continued lines joined; of a traceback below them the last line, which has the reason."""
    cause = ""
    for number, line in enumerate(lines):
        if "[stderr]" in line or "--- stderr" in line:
            yield from filter(None, [cause])
            yield from _last_of_block(lines[number + 1 :])
            return
        if match := _UV_CAUSE.match(line):
            yield from filter(None, [cause])
            cause = match["text"].strip()
        elif line.strip() and not line.startswith(" "):
            break
        elif cause and line.strip():
            cause += f" {line.strip()}"
    yield from filter(None, [cause])


def _last_of_block(lines: Sequence[str]) -> Iterator[str]:
    block = []
    for line in lines:
        if line.strip() and not line.startswith(" "):
            break
        block.append(line.strip())
    yield from [line for line in block if line][-1:]


def _guilty(text: str, origins: Sequence[Origin]) -> list[Origin]:
    """The lines that uv says we require; else those it names at all."""
    lowered = canonical_text(text)
    required = lowered.partition("you require")[2]
    for part in (required, lowered):
        named = [
            origin for origin in origins if _named(origin.line) and _speaks_of(part, _named(origin.line))
        ]
        if named:
            return named
    return []


def canonical_text(text: str) -> str:
    """Lower case, with `_` and `.` inside names as `-`, so that a name is found however it was written."""
    return re.sub(r"(?<=[a-z0-9])[_.](?=[a-z])", "-", text.lower())


def _speaks_of(text: str, name: str) -> bool:
    return re.search(rf"(?<![a-z0-9-]){re.escape(name)}(?![a-z0-9-])", text) is not None


def _named(line: str) -> str:
    """The canonical name of the package of a requirement line; empty for an option."""
    if line.startswith("-"):
        return ""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        return canonicalize_name(Requirement(line.split(" --")[0]).name)
    except InvalidRequirement:
        match = _FIRST_NAME.match(line)
        return canonicalize_name(match.group()) if match else ""
