"""What a user does without us: containers with sshd on a network of their own, and mpirun from the first."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.pairs import seconds
from runner.environment.builder import find_builder

# The image of a run with what mpirun needs beside: a server, and a key that both ends have.
DOCKERFILE = """\
FROM {image}
USER root
RUN apt-get update && DEBIAN_FRONTEND=noninteractive \\
    apt-get install -y --no-install-recommends openssh-server openssh-client
RUN mkdir -p /run/sshd /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 \\
    && cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys \\
    && printf 'StrictHostKeyChecking no\\nUserKnownHostsFile /dev/null\\nLogLevel ERROR\\n' >/root/.ssh/config
WORKDIR /workspace
ENTRYPOINT []
"""
# What Docker gives both, beside what Open MPI's own documentation asks for in containers.
SETTINGS = (
    *("--allow-run-as-root", "--bind-to", "none", "--map-by", "slot"),
    *("-mca", "btl_tcp_if_include", "eth0", "-mca", "oob_tcp_if_include", "eth0"),
    *("-mca", "btl_vader_single_copy_mechanism", "none"),
)
_ANSWERS = "until (exec 3<>/dev/tcp/{name}/22) 2>/dev/null; do sleep 0.02; done; "


def ssh_image(image: str, folder: Path) -> str:
    """`image` with sshd."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE.format(image=image))
    builder = find_builder(os.environ)
    env = {**os.environ, **dict(builder.env)}
    seconds((*builder.command, "-q", "-t", "bench-ssh", "."), folder=folder, env=env)
    return "bench-ssh"


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Two containers that may still be about to start."""

    names: tuple[str, ...]

    def mpirun(self, *command: str, per_node: int, settings: Sequence[str] = ()) -> tuple[float, str]:
        """Run it in the first container as soon as all answer; when it began (unix seconds) and what it printed."""
        waits = "".join(_ANSWERS.format(name=name) for name in self.names)
        hosts = ",".join(f"{name}:{per_node}" for name in self.names)
        began_s = time.time()
        words = ("mpirun", *SETTINGS, *settings, "--host", hosts, *command)
        return began_s, self.first("bash", "-c", waits + 'exec "$@"', "bash", *words)

    def first(self, *argv: str) -> str:
        """What a command prints in the first container."""
        return _docker("exec", self.names[0], *argv)


@contextmanager
def nodes(image: str, *, work: Path | None = None) -> Iterator[Nodes]:
    """Two containers with sshd, both started at once; removed afterwards."""
    names = ("bench-node-0", "bench-node-1")
    with ExitStack() as stack:
        stack.callback(_docker, "network", "rm", "bench-net")
        _docker("network", "create", "bench-net")
        mounted = ("-v", f"{work}:/workspace:ro") if work is not None else ()
        for name in names:
            stack.callback(_docker, "rm", "-f", name)
        options = ("--network", "bench-net", "--shm-size", "1g", *mounted)
        together(
            [
                ("run", "-d", "--name", name, "--hostname", name, *options, image, "/usr/sbin/sshd", "-D")
                for name in names
            ]
        )
        yield Nodes(names=names)


def together(commands: Sequence[Sequence[str]]) -> list[str]:
    """What several `docker` commands print that are started at once."""
    children = [
        subprocess.Popen(("docker", *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for words in commands
    ]
    printed = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("\n".join(printed))
    return printed


def _docker(*words: str) -> str:
    return together([words])[0]
