"""A folder -> hosts on this machine, and what they are given: Docker, Slurm, a registry, a store."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from tests.fixtures.docker import cache_folder, load_base_image
from tests.lab import slurm
from tests.lab.fabric import Fabric
from tests.lab.host import DAEMONS, Host
from tests.lab.namespaces import LabError, awaited
from tests.lab.plan import LOCKS, MODEL, Mode, Plan
from tests.lab.services import Registry, Store
from tests.services.dockerd import empty
from tests.services.slots import NoSlot, free_slot

_MUNGE_KEY_BYTES = 128


class Lab:
    """Hosts on one machine. `Lab.up` makes one, `Lab.open` finds it again by its folder."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.fabric = Fabric(plan)
        self.registry = Registry(self.fabric)
        self.store = Store(self.fabric)
        self._hosts = {name: Host(plan, self.fabric, name) for name in plan.names}

    @classmethod
    def up(
        cls,
        folder: Path,
        *,
        hosts: int = 3,
        later: int = 0,
        gpus: int = 2,
        model: str = MODEL,
        slurm: Mode = "plain",
        docker: bool = True,
        disk_mib: int = 8192,
        environ: Mapping[str, str] | None = None,
        owned: bool = True,
    ) -> Lab:
        """Make a lab of hosts h0, h1, … that are all up when this returns; `later` more are known and off.

        An owned one ends with the thread that made it, whatever ends that. Raises LabError.
        """
        folder = folder.resolve()
        if any(folder.is_relative_to(f"/var/{each}") for each in ("lib", "log", "spool")):
            raise LabError(
                f"{folder} would be hidden from the hosts, which have their own /var/lib: take another"
            )
        _leave_no_earlier(folder)
        slot, lock = _slot()
        with lock:
            names = tuple(f"h{number}" for number in range(hosts + later))
            plan = Plan(
                folder=folder,
                cache=cache_folder(),
                slot=slot,
                hosts=names[:hosts],
                later=names[hosts:],
                gpus=gpus,
                model=model,
                slurm=slurm,
                docker=docker,
                disk_mib=disk_mib,
                environ=dict(environ or {}),
            )
            lab = cls(plan)
            if owned:
                atexit.register(lab.down)
            try:
                lab._furnish()
                lab.fabric.up(lock, owned=owned)
                lab.registry.spawn()
                lab.store.spawn()
                lab.boot(*plan.hosts)
                lab.registry.await_()
                lab.store.await_()
            except BaseException:
                lab.down(starting=True)
                raise
        return lab

    @classmethod
    def open(cls, folder: Path) -> Lab:
        """The lab that was made in `folder`. Raises LabError where there is none."""
        return cls(Plan.load(folder.resolve()))

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Those that are on."""
        return tuple(host for host in self._hosts.values() if host.process is not None)

    @property
    def head(self) -> Host:
        return self.host(self.plan.head)

    def host(self, name: str) -> Host:
        """The host of that name, on or off. Raises LabError."""
        if name not in self._hosts:
            raise LabError(f"no host {name}: there are {', '.join(self._hosts)}")
        return self._hosts[name]

    def boot(self, *names: str) -> None:
        """Switch hosts on, with what the lab runs on them; for Slurm until they are nodes again. Safe to repeat."""
        off = tuple(name for name in names if self.host(name).process is None)
        _each(self._boot_one, off)
        if off and self.plan.slurm == "plain":
            if self.plan.head in off:
                self.head.start("slurmctld")
            _each(lambda name: self.host(name).start("slurmd"), off)
            self._await_nodes(off)
            self._remember(off)

    def ready(self) -> None:
        """Blocks until a plain Slurm can use all hosts that are on, as after its slurmctld was started again."""
        self._await_nodes([host.name for host in self.hosts])

    def renew(self) -> None:
        """As it was at the start, but for what is in the registry, the store, the shared folder and Docker's images."""
        _each(self._forget, self.plan.names)
        self.registry.start()
        self.store.well()
        self.store.start()
        self.boot(*self.plan.hosts)

    def base_image(self) -> str:
        """The image that the Docker tests build on, now on all hosts that are on; returns its reference.

        Each host made its own, under an id of its own.
        """
        return _each(lambda host: load_base_image(host.engine), self.hosts)[0]

    def pushed_image(self) -> str:
        """The same of the head, in the lab's registry: one image for all hosts. Safe to repeat."""
        here, there = load_base_image(self.head.engine), f"{self.registry.address}/base:1"
        self.head.docker("tag", here, there)
        self.head.docker("push", "--quiet", there)
        return there

    def status(self) -> dict[str, dict[str, str]]:
        """What there is and how it is, by name."""
        return {name: self._status(host) for name, host in self._hosts.items()} | {
            "registry": {
                "address": self.registry.address,
                "state": "on" if self.registry.answers() else "off",
            },
            "store": {"address": self.store.endpoint, "state": self.store.state()},
        }

    def down(self, *, starting: bool = False) -> None:
        """End all of it. What is on this machine's disk stays: logs and the hosts' disks. Safe to repeat."""
        atexit.unregister(self.down)
        self.fabric.down(starting=starting)

    # how

    def _furnish(self) -> None:
        plan = self.plan
        plan.share.mkdir(parents=True, exist_ok=True)
        rows = [
            ("127.0.0.1", "localhost"),
            (plan.services, "fabric registry store"),
            (plan.outside, "outside"),
        ]
        rows += [(plan.address(name), name) for name in plan.names]
        (plan.folder / "hosts").write_text("".join(f"{address} {name}\n" for address, name in rows))
        # A resolver on this machine's loopback answers no host; systemd's keeps the true ones beside it.
        resolvers = [
            path
            for path in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
            if path.exists()
        ]
        (plan.folder / "resolv.conf").write_text(resolvers[0].read_text() if resolvers else "")
        if not plan.key.exists():
            plan.key.touch(mode=0o600)
            plan.key.write_bytes(os.urandom(_MUNGE_KEY_BYTES))
        plan.save()

    def _boot_one(self, name: str) -> None:
        host, plan = self.host(name), self.plan
        fresh = not host.folder.exists()
        host.boot()
        if plan.docker:
            host.start("dockerd")
            if fresh:
                empty(host.engine)
        if plan.slurm == "plain":
            host.path(slurm.FOLDER).mkdir()
            said = slurm.conf(head=plan.head, address=plan.address(plan.head), cluster=plan.label)
            host.path(slurm.CONF).write_text(said)
            host.path(slurm.FOLDER / "gres.conf").write_text(slurm.gres(gpus=plan.gpus, model=plan.model))
            host.start("munged")

    def _is_node(self, name: str) -> bool:
        said = self.head.run("scontrol", "-o", "show", "node", name, check=False).stdout
        return slurm.can_use(said)

    def _await_nodes(self, names: Sequence[str]) -> None:
        for name in names:
            # One that was cut off for long is asked rarely: Slurm saw it 95 s after it was mended.
            awaited(f"node {name}", partial(self._is_node, name), timeout_s=240, pause_s=0.05)

    def _remember(self, names: Sequence[str]) -> None:
        """Slurm writes nodes that register themselves down at a next change only, and a head may be killed before."""
        self.head.run("scontrol", "update", f"NodeName={','.join(names)}", "Comment=lab")
        saved = self.head.path(slurm.STATE / "node_state")
        said = [name.encode() + b"\0" for name in names]
        awaited("Slurm's state", lambda: saved.exists() and all(each in saved.read_bytes() for each in said))

    def _forget(self, name: str) -> None:
        host = self.host(name)
        host.off()
        shutil.rmtree(host.folder, ignore_errors=True)
        if self.plan.docker:
            host.forget_containers()

    def _status(self, host: Host) -> dict[str, str]:
        told = {"address": host.address, "state": "off"}
        if host.process is None:
            return told
        daemons = [name for name in DAEMONS if host.pids(name)]
        cut = self.fabric.is_cut(host.name)
        return told | {"state": "cut off" if cut else "on", "daemons": " ".join(daemons), "disk": host.used()}


Item = TypeVar("Item")
Made = TypeVar("Made")


def _each(do: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """All at once; raises what the first of them raised, when all have ended."""
    with ThreadPoolExecutor(max(len(items), 1)) as pool:
        return list(pool.map(do, items))


def _slot() -> tuple[int, IO[str]]:
    try:
        return free_slot(LOCKS)
    except NoSlot as error:
        raise LabError(str(error)) from error


def _leave_no_earlier(folder: Path) -> None:
    """End a lab that a dead session left in that folder, and forget its hosts' disks."""
    if not (folder / "lab.json").exists():
        return
    Lab.open(folder).down()
    shutil.rmtree(folder)
