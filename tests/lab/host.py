"""One host of a lab: what it is booted with, what runs on it, and what can happen to it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.lab import slurm
from tests.lab.fabric import Fabric
from tests.lab.namespaces import LabError, Process, awaited, clean, detached, enter, named, sh
from tests.lab.plan import Plan
from tests.services.dockerd import DockerEngine, answers

_ROOT = Path(__file__).parents[2]
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the root file system all hosts see one; of these each has its own.
_OWN = ("lib", "log", "spool")
_BALLAST = "ballast"
DAEMONS = ("dockerd", "munged", "slurmctld", "slurmd")
# What the fake NVML of a host says of its GPUs beside their names; see tests/fakes/pynvml.py.
GPU_STATE = Path("/run/fake-gpus.json")


class Host:
    """A host: `name` and `address`; its `folder` holds logs, `share` of the lab is seen by all."""

    def __init__(self, plan: Plan, fabric: Fabric, name: str) -> None:
        self.plan = plan
        self.fabric = fabric
        self.name = name
        self.address = plan.address(name)
        self.folder = plan.folder / name
        self.disk = self.folder / "disk"
        self.home = self.disk / "home"
        self.state = self.disk / "pushtrain"

    # what it is

    @property
    def process(self) -> Process | None:
        """Its process 1, None while it is off."""
        return Process.read(self.folder / "process")

    @property
    def environ(self) -> dict[str, str]:
        """What a command on it finds in its environment, and no more."""
        told = {
            "PATH": f"{Path(sys.executable).parent}:{_ROOT / 'tests' / 'fakes' / 'bin'}:{_SYSTEM_PATH}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PUSHTRAIN_HOME": str(self.state),
            "PYTHONPATH": str(_ROOT / "tests" / "fakes"),
            "FAKE_GPUS": f"{self.plan.model}:{self.plan.gpus}" if self.plan.gpus else "",
            "FAKE_GPU_HOST": "yes",
            "FAKE_GPU_STATE": str(GPU_STATE),
            "FAKE_GPU_MINORS": str(slurm.FIRST_TTY),
            "PUSHTRAIN_GPU_DEVICES": "/dev/tty",
            # What Slurm starts for an agent clears its environment, but for what the agent itself needs and these.
            "PUSHTRAIN_PASS": "FAKE_GPUS FAKE_GPU_HOST FAKE_GPU_STATE FAKE_GPU_MINORS",
        }
        if self.plan.slurm == "plain":
            told["SLURM_CONF"] = str(slurm.CONF)
        return told | dict(self.plan.environ)

    def path(self, inside: str | Path) -> Path:
        """Where this machine sees a file of the host; only while the host is on."""
        return Path(f"/proc/{self._on().pid}/root") / str(inside).lstrip("/")

    @property
    def engine(self) -> DockerEngine:
        """Its Docker daemon, for who is not on the host."""
        socket = self.path("/run/docker.sock")
        return DockerEngine(host=f"unix://{socket}", socket=socket, folder=self.folder)

    # what runs on it

    def argv(
        self, *argv: str, environ: Mapping[str, str] | None = None, folder: Path | str | None = None
    ) -> list[str]:
        """The argv that runs `argv` on the host, from this machine."""
        told = self.environ | dict(environ or {})
        return enter(self._on(), *clean(told, folder or self.plan.share, *argv))

    def run(
        self,
        *argv: str,
        environ: Mapping[str, str] | None = None,
        folder: Path | str | None = None,
        given: str | None = None,
        timeout_s: float | None = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and wait for its end. Raises LabError where it fails, unless `check` is false."""
        done = subprocess.run(
            self.argv(*argv, environ=environ, folder=folder),
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise LabError(
                f"{self.name}: {' '.join(argv)}: ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def popen(
        self,
        *argv: str,
        environ: Mapping[str, str] | None = None,
        folder: Path | str | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command; it is sent SIGTERM when the returned process ends. Options are those of Popen."""
        return subprocess.Popen(self.argv(*argv, environ=environ, folder=folder), **options)

    def spawn(self, *argv: str, environ: Mapping[str, str] | None = None, log: str) -> None:
        """Start a daemon that lives until it or the host ends; `log` is a name in the host's folder."""
        sh(*self.argv("sh", "-c", detached(argv, log=self.folder / log), environ=environ))

    def docker(self, *arguments: str, stdin: IO[bytes] | None = None) -> str:
        """The output of `docker ARGUMENTS…` on its daemon."""
        return self.engine.docker(*arguments, stdin=stdin)

    def pids(self, name: str) -> list[int]:
        """Processes of that name, or with that word in their command line, as this machine numbers them."""
        process = self.process
        return named(process, name) if process else []

    # what can happen to it

    def boot(self) -> None:
        """Switch it on, with the daemons that the lab runs on it. Blocks until they answer. Safe to repeat."""
        if self.process is not None:
            return
        self._prepare()
        made = self.folder / "pid"
        made.unlink(missing_ok=True)
        log = self.folder / "boot.log"
        argv = [*_unshare(), "sh", "-euc", self._script(made)]
        self.fabric.spawn(["env", "-i", f"PATH={_SYSTEM_PATH}", *argv], log=log, kinds="p")
        awaited(f"the boot of {self.name}", made.exists, log=log)
        process = Process.of(int(made.read_text()))
        assert process is not None, log.read_text()
        self.fabric.plug_in(self.name, process)
        process.write(self.folder / "process")

    def off(self) -> None:
        """Pull its plug: all of its processes end at once, what was in memory is gone. Safe to repeat."""
        if process := self.process:
            # First, since the kernel says goodbye for each socket of a process that ends, which no dead machine does.
            self.fabric.unplug(self.name)
            process.kill()
            awaited(f"the end of {self.name}", lambda: not process.alive)

    def cut(self) -> None:
        """Take out its network cable. Safe to repeat."""
        self.fabric.cut(self.name)

    def mend(self) -> None:
        """Put the cable back. Safe to repeat."""
        self.fabric.mend(self.name)

    def kill(self, name: str, *, number: int = signal.SIGKILL) -> int:
        """Send a signal, by default -9, to all processes of that name; returns to how many."""
        doomed = [process for pid in self.pids(name) if (process := Process.of(pid))]
        for each in doomed:
            each.kill(number)
        if number == signal.SIGKILL:
            awaited(f"the end of {name} on {self.name}", lambda: not any(each.alive for each in doomed))
        return len(doomed)

    def start(self, name: str) -> None:
        """Start a daemon that the lab runs: munged, slurmctld, slurmd or dockerd. Blocks until it answers."""
        if name == "dockerd":
            self._start_dockerd()
            return
        plan = self.plan
        argv = slurm.daemon(
            name, host=self.name, address=self.address, gpus=plan.gpus, model=plan.model, key=plan.key
        )
        self.run(*argv)

    def fill(self, *, left_mib: int = 0) -> None:
        """Use up its disk, but for so much. Safe to repeat."""
        ballast = self.disk / _BALLAST
        # Blocks that are only reserved are not written to this machine's disk.
        script = (
            f"rm -f {ballast}; free=$(df --output=avail -B1 {self.disk} | tail -n 1); "
            f'bytes=$((free - {left_mib} * 1048576)); [ "$bytes" -le 0 ] || fallocate -l "$bytes" {ballast}; '
            f"[ {left_mib} -gt 0 ] || cat /dev/zero >{ballast}.rest 2>/dev/null || true"
        )
        self.run("sh", "-c", script)

    def empty(self) -> None:
        """Give back what `fill` took. Safe to repeat."""
        self.run("rm", "-f", str(self.disk / _BALLAST), f"{self.disk / _BALLAST}.rest")

    def used(self) -> str:
        """How full its disk is, as `df` says it."""
        return self.run("df", "--output=pcent", str(self.disk)).stdout.split()[-1]

    # how

    def _on(self) -> Process:
        if process := self.process:
            return process
        raise LabError(f"{self.name} is off")

    def _prepare(self) -> None:
        self.disk.mkdir(parents=True, exist_ok=True)
        for file, text in (("hostname", self.name), ("machine-id", uuid.uuid4().hex)):
            if not (self.folder / file).exists():
                (self.folder / file).write_text(f"{text}\n")
        (self.folder / "boot-id").write_text(f"{uuid.uuid4()}\n")
        image = self.folder / "disk.ext4"
        if not image.exists():
            sh("truncate", "-s", f"{self.plan.disk_mib}M", str(image))
            sh("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(image))

    def _script(self, made: Path) -> str:
        """What the host's process 1 does first; /proc is this machine's at the start, so it knows its number there."""
        own = "".join(
            f"mkdir -p {self.disk}/var/{each} {self.disk}/work/{each}\n"
            f"mount -t overlay -o lowerdir=/var/{each},upperdir={self.disk}/var/{each},workdir={self.disk}/work/{each}"
            f" overlay /var/{each}\n"
            for each in _OWN
        )
        return (
            "read -r pid rest </proc/self/stat; mount -t proc proc /proc\n"
            f"hostname {self.name}\n"
            f"mount --bind {self.plan.folder}/hosts /etc/hosts\n"
            f"[ ! -e /etc/hostname ] || mount --bind {self.folder}/hostname /etc/hostname\n"
            f"[ ! -e /etc/machine-id ] || mount --bind {self.folder}/machine-id /etc/machine-id\n"
            f"mount --bind {self.folder}/boot-id /proc/sys/kernel/random/boot_id\n"
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm; mount -t tmpfs -o mode=755 tmpfs /run\n"
            "mkdir -m 1777 /run/lock\n"
            # On some machines the file is one in /run, of which a host has its own.
            "real=$(readlink -m /etc/resolv.conf); [ -e $real ] || { mkdir -p ${real%/*}; : >$real; }\n"
            f"mount --bind {self.plan.folder}/resolv.conf $real\n"
            f"mount -o loop {self.folder}/disk.ext4 {self.disk}\n"
            f"mkdir -p {self.home} {self.state}\n"
            f"{own}"
            f"echo $pid >{made}.new; mv {made}.new {made}\n"
            "exec docker-init -- sleep infinity"
        )

    @property
    def _images(self) -> Path:
        """Docker's data: kept for the next lab of this number, so that images need not be loaded again."""
        return self.plan.cache / f"lab-{self.plan.slot}" / self.name

    def forget_containers(self) -> None:
        """Forget what Docker ran and named on a host that is off; its images stay. Safe to repeat."""
        for each in ("containers", "network", "volumes"):
            shutil.rmtree(self._images / each, ignore_errors=True)

    def _start_dockerd(self) -> None:
        self._images.mkdir(parents=True, exist_ok=True)
        self.spawn(*self._dockerd(self._images), log="dockerd.log")
        engine = self.engine
        awaited(
            f"dockerd on {self.name}",
            lambda: answers(engine.socket),
            log=self.folder / "dockerd.log",
        )

    def _dockerd(self, data: Path) -> Sequence[str]:
        return (
            "dockerd", f"--data-root={data}", "--exec-root=/run/docker", "--pidfile=/run/docker.pid",
            "--host=unix:///run/docker.sock", f"--cgroup-parent=/{self.plan.label}-{self.name}",
            f"--insecure-registry={self.plan.network}.0/24", "--log-level=warn",
        )  # fmt: skip


def _unshare() -> list[str]:
    # A clock of its own tells the host's daemons, as after any boot, that it was off.
    since = int(time.clock_gettime(time.CLOCK_BOOTTIME)), int(time.monotonic())
    clocks = [f"--boottime=-{since[0]}", f"--monotonic=-{since[1]}"]
    kinds = ("net", "uts", "mount", "pid", "time")
    return [
        "unshare",
        *(f"--{kind}" for kind in kinds),
        "--fork",
        "--kill-child=KILL",
        "--propagation=private",
        *clocks,
    ]
