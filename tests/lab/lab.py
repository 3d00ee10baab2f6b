"""A folder -> hosts on this machine, and what they are given: Docker, Slurm, a registry, a store."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fixtures.docker import cache_folder
from tests.lab import slurm
from tests.lab.fabric import Fabric
from tests.lab.host import Host
from tests.lab.namespaces import LabError, awaited
from tests.lab.plan import MODEL, Mode, Plan
from tests.lab.slots import free_slot
from tests.services.dockerd import empty

_MUNGE_KEY_BYTES = 128


class Lab:
    """Hosts on one machine. `Lab.up` makes one, `Lab.open` finds it again by its folder."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.fabric = Fabric(plan)
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
        slot, lock = free_slot()
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
            lab._furnish()
            lab.fabric.up(lock, owned=owned)
        try:
            lab._boot(plan.hosts)
        except BaseException:
            lab.down()
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

    def boot(self, name: str) -> Host:
        """Switch a host on, with what the lab runs on it; for Slurm until it is a node again."""
        self._boot((name,))
        return self.host(name)

    def down(self) -> None:
        """End all of it. What is on this machine's disk stays: logs and the hosts' disks. Safe to repeat."""
        atexit.unregister(self.down)
        self.fabric.down()

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
        if not plan.key.exists():
            plan.key.touch(mode=0o600)
            plan.key.write_bytes(os.urandom(_MUNGE_KEY_BYTES))
        plan.save()

    def _boot(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(self._boot_one, names))
        if self.plan.slurm == "plain":
            if self.plan.head in names:
                self.head.start("slurmctld")
            with ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(lambda name: self.host(name).start("slurmd"), names))
            for name in names:
                awaited(
                    f"node {name}",
                    partial(self._idle, name),
                    log=self.host(name).folder / "boot.log",
                )

    def _boot_one(self, name: str) -> None:
        host, plan = self.host(name), self.plan
        fresh = not host.folder.exists()
        host.boot()
        if plan.docker:
            host.start("dockerd")
            if fresh:
                empty(host.engine)
        if plan.slurm == "plain":
            gres = slurm.gres(gpus=plan.gpus, model=plan.model)
            host.path(slurm.FOLDER).mkdir()
            host.path(slurm.CONF).write_text(
                slurm.conf(head=plan.head, address=plan.address(plan.head), cluster=plan.label)
            )
            host.path(slurm.FOLDER / "gres.conf").write_text(gres)
            host.start("munged")

    def _idle(self, name: str) -> bool:
        said = self.host(name).run("sinfo", "-h", "-n", name, "-o", "%T", check=False)
        return said.stdout.strip() in {"idle", "mixed", "allocated"}


def _leave_no_earlier(folder: Path) -> None:
    """End a lab that a dead session left in that folder, and forget its hosts' disks."""
    if not (folder / "lab.json").exists():
        return
    Lab.open(folder).down()
    shutil.rmtree(folder)
