"""A lab's plan -> the network between its hosts, and the process that all of the lab dies with."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from runner import lock
from tests.lab.namespaces import Process, awaited, detached, enter, sh
from tests.lab.plan import Plan

_BRIDGE = "br0"
_CGROUPS = Path("/sys/fs/cgroup")
_FREE_WITHIN_S = 5.0


class Fabric:
    """Hosts are in PID namespaces within that of the fabric: when its process 1 ends, the kernel ends all of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder / "fabric"
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> Process | None:
        return Process.read(self.folder / "process")

    def up(self, slot: IO[str], *, owned: bool) -> None:
        """Start it. It keeps the lock of its `slot`; an owned one ends with the thread that calls this."""
        self.folder.mkdir(parents=True, exist_ok=True)
        clear(self.plan)
        made = self.folder / "pid"
        made.unlink(missing_ok=True)
        tied = ["setpriv", "--pdeathsig", "KILL"] if owned else []
        log = self.folder / "log"
        with log.open("wb") as output:
            self._started = subprocess.Popen(
                [*tied, *_UNSHARE, "sh", "-euc", _script(self.plan, made)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(slot.fileno(),),
            )
        awaited("the network of the lab", made.exists, log=log)
        process = Process.of(int(made.read_text()))
        assert process is not None, log.read_text()
        process.write(self.folder / "process")
        self._connect_this_machine(process)

    def down(self, *, starting: bool = False) -> None:
        """End the fabric, and so all hosts. Safe to repeat. `starting`: the caller still has the lock of its slot."""
        if process := self.process:
            process.kill()
            awaited("the end of the lab", lambda: not process.alive)
        if self._started is not None:
            self._started.kill()  # Its child ends with it, also one that has not said which it is.
            self._started.wait()
        if starting:
            clear(self.plan)
            return
        # Another lab that has taken the slot by now has cleared it, and what is there is its own.
        with lock.held(self.plan.lock, wait_s=_FREE_WITHIN_S) as ours:
            if ours:
                clear(self.plan)

    def run(self, *argv: str, given: str | None = None) -> str:
        """Run a command on the fabric: not on a host, but with the addresses of the lab."""
        return sh(*enter(self._alive(), *argv, kinds="num"), given=given)

    def spawn(self, argv: Sequence[str], *, log: Path, kinds: str = "nump") -> None:
        """Start a process that lives until it or the fabric ends."""
        sh(*enter(self._alive(), "sh", "-c", detached(argv, log=log), kinds=kinds))

    def plug_in(self, name: str, process: Process) -> None:
        """Give a host that has booted its cable, its address and its way out."""
        cable, plan = f"to-{name}", self.plan
        self.unplug(name)
        self.run(
            "ip", "-batch", "-",
            given=f"link add {cable} type veth peer name eth0 address {_card(plan.address(name))} netns {process.pid}\n"
            f"link set {cable} master {_BRIDGE} up\n",
        )  # fmt: skip
        sh(
            *enter(process, "ip", "-batch", "-", kinds="n"),
            given=f"link set lo up\naddr add {plan.address(name)}/24 dev eth0\nlink set eth0 up\n"
            f"route add default via {plan.outside}\n",
        )

    def unplug(self, name: str) -> None:
        """Take a host off the network for good: what it says while it ends reaches nobody. Safe to repeat."""
        _succeeds(*enter(self._alive(), "ip", "link", "delete", f"to-{name}", kinds="num"))

    def cut(self, name: str) -> None:
        """Take the cable out of a host. Safe to repeat."""
        self.run("ip", "link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Put it back. Safe to repeat."""
        self.run("ip", "link", "set", f"to-{name}", "up")

    def is_cut(self, name: str) -> bool:
        return " DOWN " in self.run("ip", "-o", "link", "show", f"to-{name}").replace(",", " ")

    def _alive(self) -> Process:
        process = self.process
        assert process is not None, f"the lab in {self.plan.folder} is down"
        return process

    def _connect_this_machine(self, fabric: Process) -> None:
        label = self.plan.label
        sh(
            "ip", "-batch", "-",
            given=f"link add {label} type veth peer name world netns {fabric.pid}\n"
            f"addr add {self.plan.outside}/24 dev {label}\nlink set {label} up\n",
        )  # fmt: skip
        self.run("ip", "link", "set", "world", "master", _BRIDGE, "up")
        for table, chain, rule in _rules(self.plan):
            sh("iptables", "-w", "-t", table, "-I", chain, *rule)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _script(plan: Plan, made: Path) -> str:
    """What the fabric's process 1 does; /proc is this machine's, so it knows its number there."""
    return (
        "read -r pid rest </proc/self/stat; hostname fabric; ip link set lo up\n"
        f"ip link add {_BRIDGE} address {_card(plan.services)} type bridge\n"
        f"ip addr add {plan.services}/24 dev {_BRIDGE}; ip link set {_BRIDGE} up\n"
        f"echo $pid >{made}.new; mv {made}.new {made}\n"
        "exec docker-init -- sleep infinity"
    )


def _card(address: str) -> str:
    """The hardware address: the same after each boot, or others would send to the one that they remember."""
    return ":".join(["02", "00", *(f"{int(number):02x}" for number in address.split("."))])


def clear(plan: Plan) -> None:
    """Remove what of a lab's slot is this machine's own: its rules, its link, its control groups. Safe to repeat."""
    for table, chain, rule in _rules(plan):
        while _succeeds("iptables", "-w", "-t", table, "-D", chain, *rule):
            pass
    _succeeds("ip", "link", "delete", plan.label)
    for parent in (*_CGROUPS.glob(f"{plan.label}-*"), *_CGROUPS.glob(f"*/{plan.label}-*")):
        folders = sorted((parent, *(each for each in parent.rglob("*") if each.is_dir())), reverse=True)
        awaited(f"the end of {parent}", partial(_removed, folders))


def _removed(folders: Sequence[Path]) -> bool:
    """The kernel keeps a control group for a moment after its last process."""
    try:
        for folder in folders:
            if folder.exists():
                folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _rules(plan: Plan) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Leave to reach the world from the hosts: where Docker runs, forwarding is refused."""
    address, mark = f"{plan.network}.0/24", ("-m", "comment", "--comment", plan.label)
    yield "nat", "POSTROUTING", ("-s", address, "!", "-d", address, *mark, "-j", "MASQUERADE")
    yield "filter", "FORWARD", ("-s", address, *mark, "-j", "ACCEPT")
    yield "filter", "FORWARD", ("-d", address, *mark, "-j", "ACCEPT")


def _succeeds(*argv: str) -> bool:
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


_UNSHARE = (
    "unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private",
)  # fmt: skip
