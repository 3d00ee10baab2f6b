"""A fleet from its first command to its runs: agents begin it, a user trains on it, and nothing of it harms a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import runs
from tests.agent import joined
from tests.agent.joined import HOSTS, Joined
from tests.engines.project import wait_for
from tests.lab import Lab
from tests.slurm.project import kept

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(420)]

GPUS = {"resources": {"nodes": 3, "gpu": 2}}
TWO = {"resources": {"nodes": 2, "gpu": 2}}
HOLDS = """
print("I live", flush=True)
hold("ping")
print("still here", flush=True)
hold()
"""


@pytest.fixture(scope="module")
def begun(bare_lab_session: Lab) -> Iterator[Lab]:
    """A fleet: h0 its head, h1 and h2 its hosts, h3 the machine of a user."""
    store = bare_lab_session.plan.share / "fleet-store"
    with joined.begun(bare_lab_session, store=store, token="no-token-at-all"):
        yield bare_lab_session


@pytest.fixture
def fleet(request: pytest.FixtureRequest, begun: Lab, tmp_path: Path) -> Iterator[Joined]:
    """A repository on the machine of a user; nothing of its runs may be left when a test has ended."""
    folder = begun.plan.share / tmp_path.name
    (folder / "repository").mkdir(parents=True)
    made = Joined(
        folder=folder / "repository",
        home=tmp_path / "home",
        engine="slurm",
        environment={"image": f"{begun.registry.address}/base:1"},
        store_uri=str(begun.plan.share / "fleet-store"),
        environ={"PUSHTRAIN_ENGINE": "slurm"},
        lab=begun,
    )
    failed = request.session.testsfailed
    try:
        yield made
        if request.session.testsfailed == failed:
            wait_for(
                lambda: not made.leftovers(),
                what="nothing of an ended run left",
                told=lambda: "\n".join([*made.leftovers(), made.told()]),
            )
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
        for name in made.lost:
            made.forget_scratch(name)


def submitted(fleet: Joined, *, ranks: int) -> str:
    """A run of which every rank speaks; its id."""
    started = fleet.pushtrain("run", "--detach", "--fresh", within_s=120)
    assert started.code == 0, started.output
    for rank in range(ranks):
        fleet.until_prints("I live", rank=rank)
    return fleet.run.id


def let_go(fleet: Joined, *, ranks: int) -> None:
    for rank in range(ranks):
        fleet.let_go("ping", node=rank)
        fleet.let_go(node=rank)


def unharmed(fleet: Joined, *, ranks: int) -> None:
    """The newest run is alive, goes on to its end, and needed one attempt."""
    for rank in range(ranks):
        fleet.let_go("ping", node=rank)
        fleet.until_prints("still here", rank=rank)
    let_go(fleet, ranks=ranks)
    fleet.until("succeeded")
    assert kept(fleet.run) == ["succeeded"], fleet.told()


def test_a_user_sees_the_fleet_and_trains_on_all_of_it(fleet: Joined) -> None:
    # Some seconds after it joined a host's agent has said where it tells of its GPUs.
    wait_for(lambda: all(host["agent"] for host in fleet.typed("runners")), what="agents")
    hosts = fleet.typed("runners")
    assert {host["name"]: (host["gpus"], host["gpus_free"]) for host in hosts} == dict.fromkeys(
        HOSTS, ("2 x Tesla V100-SXM2-16GB (16 GiB)", 2)
    )
    fleet.write(
        """
        rank = os.environ["PUSHTRAIN_RANK"]
        print("I live with", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        hold()
        open(f"outputs/{rank}.txt", "w").write(rank)
        """,
        **GPUS,
    )
    follower = fleet.start("run")
    fleet.until_prints("I live", rank=2)
    run_id = fleet.run.id
    assert sorted(fleet.reservation(run_id)) == sorted(HOSTS)
    assert fleet.pushtrain("top", "--once").output.count(run_id) >= 3
    assert {tuple(host["runs"]) for host in fleet.typed("runners")} == {(run_id,)}
    for node in range(3):
        own = {name for name in HOSTS if fleet.scratch(name, run_id, node).exists()}
        assert own == {fleet.reservation(run_id)[node]}
    fleet.pushtrain("run", "--detach", "--fresh")
    [waiting] = fleet.typed("queue")
    assert run_id in waiting["behind"]
    fleet.pushtrain("cancel", waiting["run"])
    for node in range(3):
        (fleet.scratch(fleet.reservation(run_id)[node], run_id, node) / "go").touch()
    assert follower.finish(within_s=120).code == 0, fleet.told()
    assert {"outputs/0.txt", "node-1/outputs/1.txt", "node-2/outputs/2.txt"} <= set(fleet.outputs(run_id))


def test_training_sees_neither_the_fleet_nor_its_token(fleet: Joined) -> None:
    fleet.write(
        """
        import json, socket
        paths = ["/run/pushtrain", "/var/lib/pushtrain", "/run/munge", "/run/docker.sock", "/var/run/docker.sock",
                 "/run/containerd", "/var/spool/slurmd"]
        def opens(name):
            try:
                socket.socket(socket.AF_UNIX).connect(name)
            except OSError:
                return False
            return True
        named = [line.split()[7] for line in open("/proc/net/unix").read().splitlines()[1:] if len(line.split()) > 7]
        print("I live", json.dumps({
            "environ": sorted(os.environ),
            "values": " ".join(os.environ.values()),
            "paths": [path for path in paths if os.path.exists(path)],
            "mounts": open("/proc/self/mounts").read(),
            "sockets": [name for name in named if opens(chr(0) + name[1:] if name[0] == "@" else name)],
            "environ of 1": open("/proc/1/environ", errors="replace").read(),
            "user": os.getuid(),
        }), flush=True)
        """,
        **TWO,
    )
    assert fleet.pushtrain("run", "--fresh", within_s=120).code == 0, fleet.told()
    key = fleet.host("h0").path("/var/lib/pushtrain/token").read_text().strip()
    for rank in range(2):
        line = next(line for line in fleet.log(fleet.run.id, rank=rank).splitlines() if "I live" in line)
        seen = json.loads(line.partition("I live ")[2])
        assert [
            name
            for name in seen["environ"]
            if name.startswith(("SLURM", "MUNGE", "DOCKER", "PUSHTRAIN_RUN_F"))
        ] == []
        assert seen["paths"] == []
        assert seen["sockets"] == []
        assert seen["user"] != 0
        for word in ("munge", "slurm", "docker.sock", "/run/pushtrain", "/var/lib/pushtrain", key, key[11:]):
            for what in ("values", "mounts", "environ of 1"):
                assert word not in seen[what], (word, what, seen[what])


def test_a_drained_host_is_waited_for_and_nobody_need_look(fleet: Joined) -> None:
    fleet.write("print('I live', flush=True)", **GPUS)
    assert "takes no more runs" in fleet.agent("h3", "drain", "h1", "--reason", "a fan is loud")
    assert "a fan is loud" in next(each["state"] for each in fleet.typed("runners") if each["name"] == "h1")
    fleet.pushtrain("run", "--detach", "--fresh")
    waits = fleet.run.id
    assert "h1 is drained (a fan is loud)" in fleet.pushtrain("queue").output
    fleet.write("print('too late', flush=True)", **GPUS, timeout={"queue": "3s"})
    fleet.pushtrain("run", "--detach", "--fresh")
    ended = fleet.until("failed")
    assert (ended.exit_code, ended.reason[:13]) == (75, "timeout.queue")
    fleet.agent("h3", "resume", "h1")
    fleet.until("succeeded", run_id=waits)


def test_daemons_and_agents_that_are_killed_are_there_again_and_a_run_is_unharmed(fleet: Joined) -> None:
    fleet.agent("h0", "drain", "h0", "--reason", "kept free")
    fleet.write(HOLDS, **TWO)
    submitted(fleet, ranks=2)
    fleet.agent("h0", "resume", "h0")
    fleet.kill_agent("h1")
    daemons = [fleet.daemon("h1", name) for name in ("munged", "slurmd")]
    fleet.agent("h1", "start")
    assert [fleet.daemon("h1", name) for name in ("munged", "slurmd")] == daemons
    for name in ("munged", "slurmd"):
        fleet.kill_daemon("h1", name)
    fleet.until_remembered()
    for name in ("munged", "publisher", "slurmctld"):
        fleet.kill_daemon("h0", name)
    # It would be given GPUs at once by a slurmctld that does not know yet who has which.
    gang, fleet.folder = fleet.run, fleet.folder.with_name("small")
    fleet.write("print('small')", resources={"gpu": 2})
    small = fleet.start("run", "--fresh")
    wait_for(lambda: small.child.poll() is not None, what="its end", told=fleet.told)
    finished = small.finish()
    assert finished.code == 0, finished.output + fleet.told()
    for node in range(2):
        for name in ("ping", "go"):
            (fleet.scratch(fleet.reservation(gang.id)[node], gang.id, node) / name).touch()
    fleet.until("succeeded", run_id=gang.id)
    assert kept(runs.load(fleet.store, gang.id)) == ["succeeded"], fleet.told()


def test_a_job_that_slurm_forgot_the_end_of_keeps_nobody_waiting(fleet: Joined) -> None:
    ended = fleet.run.id
    fleet.slurm(
        "sbatch", "-N3", "--gpus-per-node=2", "-o", "/dev/null", "-J", ended, "--comment", f"pushtrain job - {ended}",
        "--wrap", "sleep 600",
    )  # fmt: skip
    wait_for(lambda: "RUNNING" in " ".join(fleet.jobs()), what="it", told=fleet.told)
    fleet.write("print('I live', flush=True)", **GPUS)
    fleet.pushtrain("run", "--detach", "--fresh")
    fleet.until("succeeded")


def test_a_run_goes_on_while_the_head_is_off_and_boots(fleet: Joined) -> None:
    fleet.agent("h0", "drain", "h0", "--reason", "kept free")
    fleet.write(HOLDS, **TWO)
    submitted(fleet, ranks=2)
    fleet.until_remembered()
    fleet.host("h0").off()
    fleet.let_go("ping", node=0)
    fleet.until_prints("still here", rank=0)
    assert fleet.lab is not None
    fleet.lab.boot("h0")
    fleet.agent("h0", "start")
    unharmed(fleet, ranks=2)
    fleet.agent("h0", "resume")
    fleet.until_idle()


def test_a_run_whose_supervisor_was_on_the_head_goes_on_when_the_head_is_back(fleet: Joined) -> None:
    fleet.write(HOLDS, resources={"nodes": 3})
    submitted(fleet, ranks=3)
    fleet.until_remembered()
    assert fleet.batch_host().name == "h0"
    fleet.host("h0").off()
    assert fleet.lab is not None
    wait_for(lambda: not fleet.host("h1").docker("ps", "-q"), what="the end of what h1 ran", told=fleet.told)
    fleet.lab.boot("h0")
    fleet.agent("h0", "start")
    wait_for(lambda: fleet.run.attempt == 2, what="another attempt", told=fleet.told, within_s=300)
    for rank in range(3):
        fleet.until_prints("I live", attempt=2, rank=rank)
    let_go(fleet, ranks=3)
    fleet.until("succeeded")
    fleet.until_idle()


def test_what_a_job_left_is_ended_when_slurm_ends_it(fleet: Joined) -> None:
    fleet.agent("h0", "drain", "h0", "--reason", "kept free")
    fleet.write("print('I live', flush=True); hold()", **TWO)
    submitted(fleet, ranks=2)
    [job] = [line.split()[0] for line in fleet.jobs()]
    batch = fleet.batch_host()
    node = next(host for host in map(fleet.node_of, range(2)) if host is not batch)
    # The host first: one that Slurm tells to end leaves nothing.
    for name in ("runner.host.leash", "runner.host"):
        node.kill(name)
    batch.kill("slurm_script")
    batch.kill("runner.supervise")
    wait_for(lambda: fleet.strangers(node.name), what="what it ended", told=fleet.told)
    ended = fleet.strangers(node.name)
    assert {(each["kind"], each["by"]) for each in ended} == {("container", f"epilog of job {job}")}
    assert node.docker("ps", "--all", "--quiet") == ""
    fleet.agent("h0", "resume", "h0")


def test_what_was_left_on_a_host_that_boots_is_ended_before_its_gpus_are_offered(fleet: Joined) -> None:
    fleet.agent("h0", "drain", "h0", "--reason", "kept free")
    fleet.write("print('I live', flush=True); hold()", resources={"gpu": 2})
    submitted(fleet, ranks=1)
    fleet.agent("h0", "resume", "h0")
    lost = fleet.node_of(0)
    lost.off()
    # Slurm would see it by itself after 20 s.
    fleet.slurm("scontrol", "update", f"nodename={lost.name}", "state=down", "reason=off")
    fleet.pushtrain("cancel", "last", "--kill")
    assert fleet.lab is not None
    fleet.lab.boot(lost.name)
    assert lost.docker("ps", "--all", "--quiet") != ""
    fleet.agent(lost.name, "start")
    assert lost.docker("ps", "--all", "--quiet") == ""
    assert {each["by"] for each in fleet.strangers(lost.name)} == {"strangers"}
    fleet.lost.add(lost.name)
    fleet.until_idle()


def test_a_stranger_on_a_gpu_keeps_a_host_from_being_offered_until_it_ends(fleet: Joined) -> None:
    host = fleet.host("h2")
    fleet.agent("h2", "stop")
    host.spawn("sleep", "600", log="stranger.log")
    # The first process of a host sleeps as well.
    found = ("pgrep", "-f", "^sleep 600")
    wait_for(lambda: host.run(*found, check=False).stdout, what="a stranger", told=lambda: "")
    pid = host.run(*found).stdout.strip()
    fleet.use_gpu("h2", 1, int(pid))
    fleet.agent("h2", "start")
    told = next(each["state"] for each in fleet.typed("runners") if each["name"] == "h2")
    assert f"process {pid} (sleep) of root on GPU-fake-h2-1" in told
    host.run("kill", pid)
    fleet.use_gpu("h2", 1)
    host.run("/run/pushtrain/health", environ={"SLURMD_NODENAME": "h2"})
    fleet.until_idle()
