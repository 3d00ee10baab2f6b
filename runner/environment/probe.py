"""An image in Docker -> which mpirun and which of the packages that matter are inside, asked once and kept."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.environment import client, combinations, facts
from runner.environment.client import Refused
from runner.errors import EngineError

# Raised whenever other questions are asked, so that older answers do not count.
FORMAT = 1
_TIMEOUT_S = 60.0
_MEMORY = "1g"
_PROCESSES = "256"
_MAX_BYTES = 1 << 20
_PACKAGES = (
    "import importlib.metadata as m\n"
    "for d in m.distributions():\n"
    " n = d.metadata['Name']\n"
    " if n: print('package', n, d.version)\n"
)
# Python is not certain to be there, nor anything else but a shell. Whoever asks may be killed meanwhile: then the first
# line ends what an image never would.
_SCRIPT = f"""
(sleep {2 * _TIMEOUT_S:.0f} && kill -s KILL -- -1) >/dev/null 2>&1 </dev/null &
if command -v mpirun >/dev/null 2>&1; then mpirun --version 2>&1 | while read -r l; do echo "mpirun $l"; done; fi
echo "keras ${{TF_USE_LEGACY_KERAS:-}}"
for p in python python3; do
  if command -v "$p" >/dev/null 2>&1; then "$p" -c "{_PACKAGES}"; exit; fi
done
"""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What an image holds: what its `mpirun` says of itself (empty without one), versions by canonical name of those
    packages that `combinations` looks at, and its own TF_USE_LEGACY_KERAS.
    """

    mpirun: str
    packages: Mapping[str, str]
    legacy_keras: str


def of_image(reference: str, *, cache: Path) -> Probe | None:
    """What the image holds; None where it is not on this machine.

    The first time a container of it is run for a second, which can reach and change nothing; the answer is kept below
    `cache` by the image's id. Raises EngineError where Docker does not answer.
    """
    here = facts.local(reference)
    if here is None:
        return None
    file = cache / f"{here.id.rpartition(':')[2]}.json"
    kept = _kept(file)
    if kept is not None:
        return kept
    probe = read(_ask(here.id))
    cache.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}")
    part.write_text(json.dumps({"format": FORMAT, **asdict(probe)}))
    part.replace(file)
    return probe


def read(said: str) -> Probe:
    """The lines of the script, whatever else stands between them."""
    rows = [line.split(" ", 1) for line in said.splitlines() if " " in line]
    packages = [row[1].rsplit(" ", 1) for row in rows if row[0] == "package" and " " in row[1]]
    return Probe(
        mpirun="\n".join(row[1] for row in rows if row[0] == "mpirun"),
        packages=combinations.of_interest((name, version) for name, version in packages),
        legacy_keras=next((row[1].strip() for row in rows if row[0] == "keras"), ""),
    )


def _kept(file: Path) -> Probe | None:
    try:
        found = json.loads(file.read_text())
        if found.pop("format") != FORMAT:
            return None
        return Probe(**found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _ask(image: str) -> str:
    """What the script prints; nothing of ours where the image has not even a shell, and so nothing we look for."""
    name = f"pushtrain-probe-{uuid.uuid4().hex[:12]}"
    argv = [client.executable(), "run", "--rm", "--name", name, "--network", "none", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", _PROCESSES,
            "--memory", _MEMORY, "--log-driver", "none", "--entrypoint", "/bin/sh", image, "-c", _SCRIPT]  # fmt: skip
    # An image may be anybody's, and say more than there is room for.
    limited = ["/bin/sh", "-c", f'"$@" 2>&1 | head -c {_MAX_BYTES}', "sh", *argv]
    try:
        done = subprocess.run(
            limited, capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"the image {image} did not answer within {_TIMEOUT_S:.0f} s what it holds",
            tip=f"docker run --rm --entrypoint /bin/sh {image} -c true",
        ) from error
    finally:
        _remove(name)
    refused = client.refusal("run", done.stdout.strip())
    if not isinstance(refused, Refused):  # the daemon went away
        raise refused
    return done.stdout


def _remove(name: str) -> None:
    """End a container that still runs after its time; `--rm` has removed any other."""
    subprocess.run([client.executable(), "rm", "--force", name], capture_output=True, check=False)
