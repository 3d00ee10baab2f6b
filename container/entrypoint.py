"""The container action: starts a container beside its own, in which the command and its run live, and follows that.

The runner removes the action's container with the job. A run's supervisor lives on, so it is in another one, which ends
with the last process in it. That one has what this one was given, and the folder of the machine's state under the very
path that it has on the host, since Docker's daemon is told paths of the host.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

HOME = "/var/lib/pushtrain"
INSIDE = "/opt/pushtrain/inside.py"
# Those of this container, and not of the job.
_OWN = {"PATH", "HOME", "HOSTNAME", "LANG", "GPG_KEY", "RUNNER_TRACKING_ID"}
# Where the host's Docker is on the host; here it is where the runner mounts it.
_DOCKERS = ("DOCKER_HOST", "DOCKER_CONTEXT")
_AS_COMMANDS_HAVE_THEM = (
    "ENGINE",
    "STORE",
    "REGISTRY",
    "HOME",
    "TOKEN",
    "APP_ID",
    "APP_PRIVATE_KEY",
    "APP_INSTALLATION",
    "SIGNING_KEY",
)
_INPUTS = ("TRAIN_FILE", "PARAMS", "DETACH", "FRESH", "KEY", "PROMOTE", "STAGE")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the command gets: all of the job's, and the inputs as action.yml has them."""
    kept = {
        name: value
        for name, value in given.items()
        if name not in _OWN and name not in _DOCKERS and not name.startswith(("INPUT_", "PYTHON"))
    }
    inputs = {
        name.removeprefix("INPUT_").replace("-", "_"): value
        for name, value in given.items()
        if name.startswith("INPUT_")
    }
    kept |= {f"PUSHTRAIN_{name}": inputs[name] for name in _AS_COMMANDS_HAVE_THEM if inputs.get(name)}
    kept |= {f"PUSHTRAIN_INPUT_{name}": inputs.get(name, "") for name in _INPUTS}
    home = kept.setdefault("PUSHTRAIN_HOME", HOME)
    kept.setdefault("PUSHTRAIN_ENGINE", "docker")
    job = re.sub(r"[^0-9]", "", kept.get("GITHUB_RUN_ID", "")) or "0"
    return kept | {"PUSHTRAIN_RESULTS": f"{home}/results/{job}-{secrets.token_hex(4)}"}


def create(own: Mapping[str, Any], *, home: str, name: str, folder: str) -> list[str]:
    """The command that makes the container beside the one that `docker inspect` says this is."""
    mounts = [*map(_mount, own["Mounts"]), f"--volume={home}:{home}"]
    return [
        *("docker", "create", "--interactive", "--rm", f"--name={name}", "--label=pushtrain.action"),
        # The stand of a run is followed by the job; this log is for whoever looks after a detached one.
        *("--network=host", "--log-driver=local", f"--workdir={folder}"),
        *mounts,
        *("--entrypoint", sys.executable, own["Image"], "-P", INSIDE),
    ]


def _mount(mount: Mapping[str, Any]) -> str:
    source = mount["Name"] if mount["Type"] == "volume" else mount["Source"]
    return f"--volume={source}:{mount['Destination']}" + ("" if mount["RW"] else ":ro")


def own_id() -> str:
    """This container's id: from the files that Docker mounts into it, else its host name."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:  # noqa: PTH123  # it is no file
        found = re.search(r"/containers/([0-9a-f]{64})/", mounts.read())
    return found[1] if found else os.environ["HOSTNAME"]


def follow(name: str, env: Mapping[str, str]) -> int:
    """Start the container and print what it prints. Returns the command's exit code; what is left in it goes on."""
    word = secrets.token_hex(16)
    client = subprocess.Popen(
        ["docker", "start", "--attach", "--interactive", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdin is not None
    assert client.stdout is not None
    # By its standard input: neither Docker nor a list of processes is told a secret.
    client.stdin.write(json.dumps({"word": word, "env": dict(env)}).encode() + b"\n")
    client.stdin.flush()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: _signal(name, signal.Signals(number).name))
    ended = f"{word} ".encode()
    for line in client.stdout:
        before, found, code = line.partition(ended)
        sys.stdout.buffer.write(before)
        sys.stdout.buffer.flush()
        if found:
            _signal(name, "SIGUSR1")
            client.kill()
            return int(code)
    return client.wait() or 1


def _signal(name: str, signame: str) -> None:
    subprocess.run(["docker", "kill", f"--signal={signame}", name], capture_output=True, check=False)


def _docker(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(done.stderr.strip())
    return done.stdout


def _fail(why: str) -> NoReturn:
    first = why.splitlines()[0] if why else "Docker does not answer"
    sys.stdout.write(f"::error title=Pushtrain::{first}\n")
    sys.stdout.write("  tip: the action needs the host's Docker at /var/run/docker.sock\n")
    sys.exit(72)


def main() -> int:
    """Run the command in a container of its own; its exit code."""
    env = environment(os.environ)
    for name in _DOCKERS:
        os.environ.pop(name, None)
    home = env["PUSHTRAIN_HOME"]
    if not home.startswith("/") or ":" in home:
        _fail(f"home: {home!r} is no absolute path of the host")
    (own,) = json.loads(_docker(["docker", "inspect", "--type=container", own_id()]))
    name = f"pushtrain-{env['PUSHTRAIN_RESULTS'].rpartition('/')[2]}"
    _docker(create(own, home=home, name=name, folder=os.getcwd()))  # noqa: PTH109
    return follow(name, env)


if __name__ == "__main__":
    sys.exit(main())
