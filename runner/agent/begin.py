"""What `agent start` was told -> a host of the fleet: settings kept, files written, the agent started."""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent import (
    addresses,
    clock,
    daemons,
    elastic,
    inventory,
    layout,
    login,
    membership,
    needs,
    ports,
    processes,
    reach,
    token,
    wishes,
)
from runner.agent.settings import Settings, State
from runner.errors import EngineError, Refused, UsageError
from runner.lock import is_held
from runner.slurm.client import run_folder
from runner.slurm.conf import Cluster, Ports

if TYPE_CHECKING:
    from runner.agent.inventory import Inventory
    from runner.agent.layout import About
    from runner.agent.reach import Tell
    from runner.agent.token import Token
    from runner.agent.wishes import HeadWish, Wish

REGISTERED_WITHIN_S = 60.0
GIVE_UP_AFTER_FAILURES = 4
# A head that says no for so long means it; in its first second it may not know better.
DENIED_AFTER_S = 8.0
# A head that boots is not waited for any longer by whoever typed the start; the agent does.
AWAY_AFTER_S = 20.0
LOCK = "agent.lock"
# Names the agent that has begun all of its daemons, or has taken them over.
BEGUN = "agent.begun"
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Started:
    """An agent's process, and where its logs began with it: what stands above is of earlier starts."""

    process: subprocess.Popen[bytes]
    logs: processes.Logs


def head(wish: HeadWish, state: State) -> About:
    """Write all that makes this machine the head. The key of an earlier start is kept, so that its hosts stay.

    Raises UsageError, StoreError, SpecError (of elastic.yml), EngineError (with all that is missing), Refused where it
    is a host or client of a fleet.
    """
    _check_no_member(state)
    wishes.check(wish)
    wishes.check_state(wish.cluster, state.folder)
    address = addresses.own(wish.address) if wish.address is not None else addresses.of_head()
    if wish.store is not None:
        wishes.check_store(wish.store, home=Path(wish.home))
    settings = replace(_settings(wish, address), role="head", serves_registry=wish.serves_registry)
    found = _offering(_ready(inventory.look(Path(wish.home)), settings), wish)
    state.make()
    grows = elastic.keep(wish.elastic, state.folder) if wish.elastic else elastic.kept(state.folder)
    registry = f"{address}:{Ports().registry}" if wish.serves_registry else wish.registry
    made = token.Token(
        cluster=Cluster(
            name=wish.cluster,
            head=addresses.host_name(),
            address=address,
            power=elastic.conf_power(grows, run=run_folder()) if grows else None,
        ),
        key=base64.b64encode(_key(state)).decode(),
        store=wish.store,
        registry=registry,
        slurm=found.slurm_version or "",
        pushtrain=found.pushtrain_version,
        serves_registry=wish.serves_registry,
    )
    return _written(settings, made, found, state)


def _check_no_member(state: State) -> None:
    """A fleet of its own would be begun with another's key."""
    former = _former(state)
    if former is None or former.role == "head":
        return
    raise Refused(
        f"this machine is a {former.role} of a fleet already, as {former.name}: --head would begin another fleet",
        tip="pushtrain agent start; pushtrain agent leave; then this again. " + _no_more(state),
    )


def _check_no_head(state: State) -> None:
    """Its key, by which all its hosts know it, would be written over."""
    former = _former(state)
    if former is None or former.role != "head":
        return
    raise Refused(
        f"this machine is the head of a fleet, as {former.name}: --join would write another's key over its own",
        tip=f"to go on as the head: pushtrain agent start. {_no_more(state)}",
    )


def _former(state: State) -> Settings | None:
    try:
        return state.load()
    except UsageError:  # It was in none, or nobody can tell.
        return None


def _no_more(state: State) -> str:
    return f"Where that fleet is no more: rm {state.folder}/settings.json {state.key}"


def member(wish: Wish, state: State, *, head: str, given: Path, client: bool, tell: Tell) -> About:
    """Write all that makes this machine a host of the fleet of that token, or one that only submits (`client`).

    Of a machine that is of no fleet yet nothing is written before the head can be reached; meanwhile `tell` is told.

    Raises Refused for a token that others can read, and on the head of a fleet, UsageError, EngineError (with all that
    is missing, versions that are not the head's included; and where the head does not answer a first join).
    """
    _check_no_head(state)
    wishes.check(wish)
    told = token.read(given)
    reached = told.cluster.address if head == told.cluster.head else addresses.resolve(head)
    address = addresses.own(wish.address) if wish.address is not None else addresses.of_member(reached)
    settings = _settings(wish, address)
    settings = replace(settings, role="client", works=False) if client else settings
    found = inventory.look(Path(wish.home))
    found = _offering(_ready(found, settings, versions_of=told, clock_of=reached), wish)
    if not state.knows:
        reach.await_head(told.cluster, at=reached, asked=head, tell=tell)
    state.make()
    told = replace(told, cluster=replace(told.cluster, address=reached))
    return _written(settings, told, found, state)


def again(state: State) -> About:
    """The same as the last time, after a reboot or a change of this machine. Raises UsageError, EngineError."""
    settings, told = state.load(), token.read(state.token)
    head = told.cluster.address if settings.role != "head" else None
    if head is not None and not settings.address_given:
        settings = replace(settings, address=addresses.of_former(settings.address, head=head))
    found = _offering(_ready(inventory.look(Path(settings.home)), settings, clock_of=head), settings)
    state.make()
    if settings.role == "head":
        grows = elastic.kept(state.folder)
        power = elastic.conf_power(grows, run=run_folder()) if grows else None
        told = replace(told, cluster=replace(told.cluster, power=power))
        told = replace(told, slurm=found.slurm_version or "", pushtrain=found.pushtrain_version)
        told = replace(told, serves_registry=settings.serves_registry)
    return _written(settings, told, found, state)


def _settings(wish: Wish, address: str) -> Settings:
    return Settings(
        role="member",
        works=wish.works,
        name=wish.name or addresses.host_name(),
        address=address,
        address_given=wish.address is not None,
        home=wish.home,
        labels=wish.labels,
        gpus=wish.gpus,
        cpus=wish.cpus,
        memory_bytes=wish.memory_bytes,
        cache_quota=wish.cache_quota,
    )


def _ready(
    found: Inventory, settings: Settings, *, versions_of: Token | None = None, clock_of: str | None = None
) -> Inventory:
    _check_none_runs()
    role = settings.role
    listens = ports.wanted(
        Ports(),
        role=role,
        works=settings.works,
        serves_registry=settings.serves_registry,
        address=settings.address,
    )
    lacks = needs.missing(
        offered(found, gpus=settings.gpus and settings.works),
        role=role,
        head_slurm=versions_of.slurm if versions_of else None,
        head_pushtrain=versions_of.pushtrain if versions_of else None,
        clock_off_s=clock.settled_ahead_s(clock_of, Ports().metrics, up_s=clock.up_s()) if clock_of else None,
        taken=ports.taken(listens),
    )
    if lacks:
        raise EngineError(
            f"this machine is no {role} of a fleet yet; it lacks:\n{needs.listed(lacks)}",
            tip="pushtrain agent start again, when these are there",
        )
    return found


def offered(found: Inventory, *, gpus: bool) -> Inventory:
    """What of this machine is the fleet's: without its GPUs nothing is wrong with them. Pure."""
    return found if gpus else replace(found, gpus=(), gpu_trouble="")


def _check_none_runs() -> None:
    if is_held(run_folder() / LOCK):
        raise UsageError(
            "an agent runs on this machine already",
            tip="pushtrain agent status; to change it: pushtrain agent stop",
        )


def _offering(found: Inventory, wish: Wish | Settings) -> Inventory:
    wishes.check_offer(cpus=wish.cpus, memory_bytes=wish.memory_bytes, there=found)
    return found


def _key(state: State) -> bytes:
    if not state.key.exists():
        token.write_secret(state.key, secrets.token_bytes(token.KEY_BYTES))
    return state.key.read_bytes()


def _written(settings: Settings, told: Token, found: Inventory, state: State) -> About:
    if not (state.key.exists() and state.key.read_bytes() == told.key_bytes):
        token.write_secret(state.key, told.key_bytes)
    token.write(state.token, told)
    about = layout.write(settings, told, found, state=state.folder)
    if settings.serves_registry:
        login.write_htpasswd(state.htpasswd, told.key_bytes)
        text = daemons.registry_conf(
            folder=state.folder / "registry",
            address=settings.address,
            port=told.cluster.ports.registry,
            htpasswd=state.htpasswd,
        )
        (state.folder / "registry.yml").write_text(text)
    if told.serves_registry and told.registry is not None:
        login.write(run_folder(), registry=told.registry, key=told.key_bytes)
    else:
        login.forget(run_folder())
    state.save(settings)
    return about


# starting it


def argv(state: State) -> list[str]:
    """The agent as a command."""
    return [sys.executable, "-m", "runner.agent", "--state", str(state.folder)]


def detached(state: State) -> Started:
    """Start the agent apart from this process; what it says goes to its log."""
    # An earlier agent may have had the same number, as in a container that was started again.
    (run_folder() / BEGUN).unlink(missing_ok=True)
    logs = processes.Logs.now(state.logs)
    with (state.logs / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            argv(state), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
    return Started(process=process, logs=logs)


def wait(about: About, started: Started, *, tell: Tell, former: bool) -> bool:
    """Return True when the head has this host (to a client: answers), telling `tell` meanwhile for what it waits.

    A `former` host of the fleet whose head cannot be reached is False after AWAY_AFTER_S: its agent asks on for ever.
    Raises EngineError, with the log that says why.
    """
    look = _Look(about=about, tell=tell)
    while look.since_s < REGISTERED_WITHIN_S:
        look.at_head()
        if started.process.poll() is not None:
            raise _ended(started.logs.tail("agent.log"))
        if former and look.away_s > AWAY_AFTER_S:
            return False
        if look.away is None and look.since_s > DENIED_AFTER_S and reach.is_denied():
            break
        # Slurm's commands ask a head that is away for many seconds, and slurmd may end for it.
        if _has_begun(started.process.pid) and (look.away is None or about.role == "head"):
            _look_for_failures(about, started.logs)
            if _is_there(about):
                return True
        time.sleep(_LOOK_EVERY_S)
    raise reach.explain(about, started.logs)


@dataclass(kw_only=True)
class _Look:
    """Of a start that waits for its head: why it cannot be reached, if so, and for how long that has been so."""

    about: About
    tell: Tell
    away: str | None = None
    began_s: float = field(default_factory=time.monotonic)
    reached_s: float = field(default_factory=time.monotonic)
    told_s: float = field(default_factory=time.monotonic)

    @property
    def since_s(self) -> float:
        return time.monotonic() - self.began_s

    @property
    def away_s(self) -> float:
        return time.monotonic() - self.reached_s if self.away is not None else 0.0

    def at_head(self) -> None:
        """Look whether it can be reached, and tell how things stand where that was not told for some seconds."""
        self.away = reach.closed(self.about.head_address, Ports().slurmctld)
        if self.away is None:
            self.reached_s = time.monotonic()
        if time.monotonic() - self.told_s >= reach.TELL_EVERY_S:
            self.told_s = time.monotonic()
            self.tell(f"{self._stands()}; {self.since_s:.0f} s so far")

    def _stands(self) -> str:
        if self.about.role == "head":
            return "waiting for Slurm to start"
        if self.away is not None:
            return f"the head {self.about.head} does not answer at {self.about.head_address} ({self.away})"
        return f"waiting for the head {self.about.head} to register this host"


_LOOK = "pushtrain agent status"
_SAID_LAST = re.compile(r".* ERROR (?P<said>.*); tip: (?P<tip>.*)", re.DOTALL)


def _ended(log: str) -> EngineError:
    """What an agent said at its end, before anything else of its log. Pure."""
    if found := _SAID_LAST.fullmatch(log):
        return EngineError(found["said"], tip=found["tip"])
    return EngineError(f"the agent ended:\n{log}", tip=_LOOK)


def _has_begun(pid: int) -> bool:
    """Whether that agent is beyond its start: what is noted of daemons may be an earlier one's until then."""
    try:
        return (run_folder() / BEGUN).read_text() == f"{pid}\n"
    except FileNotFoundError:
        return False


def _is_there(about: About) -> bool:
    try:
        if not about.works:
            membership.cluster().run("scontrol", "show", "config", patience_s=0.0)
            return True
        slurmd = processes.load(run_folder() / "daemons.json").get("slurmd")
        if slurmd is None or slurmd.process is None:
            # Whom the head knows by this name is not this host, or not yet.
            return False
        found = membership.awaited(about, within_s=0.0)
        return found is not None and found.address == about.address
    except Refused:
        raise
    except EngineError as error:
        if "does not take" in str(error):
            raise
        return False


def _look_for_failures(about: About, logs: processes.Logs) -> None:
    noted = processes.load(run_folder() / "daemons.json")
    for daemon in daemons.wanted(about, run=run_folder()):
        if (note := noted.get(daemon.name)) and note.failures >= GIVE_UP_AFTER_FAILURES:
            said = logs.tail(daemon.log(logs.folder).name) or logs.tail(daemon.printed(logs.folder).name)
            raise EngineError(f"{daemon.name} does not stay up:\n{said}", tip=_cure(said, daemon.name))


def _cure(said: str, name: str) -> str:
    if "ddress already in use" in said or "address already in use" in said:
        return f"another {name} has its port: ss -ltnp shows whose; systemctl disable --now {name}"
    return _LOOK
