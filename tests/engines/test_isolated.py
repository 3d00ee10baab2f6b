"""A fork's run: kept from the machine, the network and everybody else's runs."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from runner import engines, pipeline, plan, runs, spec
from runner.errors import NotFound, PlanError, Refused
from runner.host.containers import connect
from runner.pipeline import Workshop
from runner.place import Gang
from runner.plan import Asked
from runner.runs import State
from tests.engines.project import Project
from tests.engines.test_groups import until
from tests.services.dockerd import DockerEngine

docker = pytest.mark.docker
METRIC = 'open("logs/metrics.jsonl", "w").write(\'{"step": 1, "accuracy": 0.5}\\n\')\n'


def submit(project: Project, *, fork: bool = True, branch: str = "ann:main", base: str = "") -> str:
    """Start a run as `/train SHA` does on a fork's pull request; `base` is the base branch's train.yml."""
    shop = Workshop(home=project.home, store_uri=project.store_uri, engine_name=project.engine, registry=None)
    asked = Asked(
        trigger="comment",
        commit="c" * 40,
        branch=branch,
        dirty=False,
        by="bob",
        repository="bob/digits",
        pull=7,
        base="main",
        fork=fork,
    )
    trusted = spec.parse(base) if base else spec.load(project.folder / "train.yml")
    planned = pipeline.make_plan(
        shop, project.folder, train_file="train.yml", overrides=(), asked=asked, trusted=trusted
    )
    try:
        return pipeline.submit(shop, planned)
    finally:
        planned.source.close()


def test_the_engine_local_cannot_keep_a_forks_run_from_this_machine(tmp_path: Path) -> None:
    local = engines.load("local", home=tmp_path, store=str(tmp_path / "store"))
    with pytest.raises(Refused) as caught:
        engines.check_isolation(local)
    assert "--engine docker" in caught.value.tip
    engines.check_isolation(engines.load("docker", home=tmp_path, store=str(tmp_path / "store")))


def test_a_forks_run_of_several_nodes_is_refused_where_they_would_share_their_hosts_network() -> None:
    """By the plan, before anything is submitted."""
    engines.check_network(Gang(nodes=2), allocated=False)
    engines.check_network(Gang(nodes=1), allocated=True)
    with pytest.raises(PlanError, match="of several nodes") as caught:
        engines.check_network(Gang(nodes=2), allocated=True)
    assert "resources.nodes to 1" in caught.value.tip


def test_a_forks_run_is_refused_by_the_engine_local_before_anything_is_stored(local_project: Project) -> None:
    local_project.write("print('never')")
    with pytest.raises(Refused, match="needs the engine docker"):
        submit(local_project)
    assert local_project.run_ids == ()


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_forks_rank_reaches_nothing_but_its_folder_and_its_data(
    docker_project: Project, docker_engine: DockerEngine, tmp_path: Path, ranks: int
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("kept")
    docker_project.environ["API_TOKEN"] = "tok-5f2a9c71"
    docker_project.write(
        textwrap.dedent("""
        import json, socket
        def may_write(path):
            try:
                open(path, "w").write("changed")
            except OSError:
                return False
            return True
        def reaches(host, port):
            try:
                socket.create_connection((host, port), timeout=3).close()
            except OSError as error:
                return False
            return True
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        mounts = [line.split()[1] for line in open("/proc/mounts") if line.split()[0].startswith("/dev/")]
        facts = {
            "capabilities": [status[n].strip() for n in ("CapEff", "CapPrm", "CapInh", "CapBnd")],
            "new_privileges": status["NoNewPrivs"].strip(),
            "uid": os.getuid(),
            "token": os.environ.get("API_TOKEN", "none"),
            "copy": os.environ["COPY"],
            "sockets": [p for p in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(p)],
            "wrote": [p for p in ("/datasets/data/file", "/etc/new", "/usr/new") if may_write(p)],
            "interfaces": sorted(os.listdir("/sys/class/net")),
            "reached": [h for h in ("1.1.1.1", "169.254.169.254") if reaches(h, 80)],
            "self": socket.gethostbyname(socket.gethostname()),
        }
        json.dump(facts, open("outputs/facts-%s.json" % os.environ["PUSHTRAIN_RANK"], "w"))
        """)
        + METRIC
        + 'print("told", flush=True)\nhold()\n',
        datasets={"data": {"source": str(tmp_path / "data")}},
        secrets=["API_TOKEN"],
        env={"COPY": "<${{ secrets.API_TOKEN }}>"},
        metrics={"primary": "accuracy"},
        release={"model": "digits", "path": "outputs", "framework": "none"},
        distribution={"type": "none", "processes_per_node": ranks},
    )

    run_id = submit(docker_project)
    for rank in range(ranks):
        docker_project.until_prints("told", rank=rank, run_id=run_id)
    client = connect()
    found = client.containers.list(filters={"label": f"pushtrain.run={run_id}"})
    settings = [each.attrs["HostConfig"] for each in found]
    mounts = [m for each in found for m in each.attrs["Mounts"]]
    client.close()
    (docker_project.home / "scratch" / run_id / "node-0/work/go").touch()
    run = until(docker_project, run_id, State.SUCCEEDED)

    for rank in range(ranks):
        assert json.loads(docker_project.outputs(run_id)[f"outputs/facts-{rank}.json"]) == {
            "capabilities": ["0" * 16] * 4,
            "new_privileges": "1",
            "uid": 1000,
            "token": "none",
            "copy": "<>",
            "sockets": [],
            "wrote": [],
            "interfaces": ["lo"],
            "reached": [],
            "self": "127.0.0.1",
        }
    assert len(settings) == (1 if ranks == 1 else 3)
    assert {s["PidsLimit"] for s in settings} == {4096}
    writable = {m["Source"] for m in mounts if m["RW"]}
    folder = docker_project.home / "scratch" / run_id / "node-0"
    own = {str(folder / "gang/ranks" / str(rank)) for rank in range(ranks)} if ranks > 1 else set()
    assert writable == {str(folder / "work"), *own}
    assert (run.isolated, run.release, run.metric) == (True, None, ("accuracy", 0.5))
    made = plan.from_json(docker_project.store.read(runs.key(run_id, "plan.json")))
    assert made.secrets == ()
    with pytest.raises(NotFound):
        docker_project.store.read(f"results/{made.hash}")
    assert list(docker_project.store.keys("models/")) == []


@docker
@pytest.mark.timeout(600)
def test_the_nodes_of_a_forks_run_reach_each_other_and_nobody_else(docker_project: Project) -> None:
    docker_project.write(
        """
        import socket
        node = int(os.environ["PUSHTRAIN_NODE_RANK"])
        with socket.create_server(("", 4000)) as server:
            for _ in range(500):
                try:
                    peer = socket.create_connection((f"node-{1 - node}", 4000))
                    break
                except OSError:
                    time.sleep(0.02)
            peer.sendall(str(node).encode())
            said = server.accept()[0].recv(10).decode()
        routes = [line.split() for line in open("/proc/net/route")][1:]
        gateways = {socket.inet_ntoa(bytes.fromhex(r[2])[::-1]) for r in routes} - {"0.0.0.0"}
        network = socket.gethostbyname(socket.gethostname()).rpartition(".")[0]
        for host in {"1.1.1.1", "169.254.169.254", network + ".1", *gateways}:
            try:
                socket.create_connection((host, 80), timeout=1).close()
                said += " and " + host
            except ConnectionRefusedError:
                said += " and " + host
            except OSError:
                pass
        open("outputs/said", "w").write(said)
        """,
        resources={"nodes": 2},
    )

    run_id = submit(docker_project)
    until(docker_project, run_id, State.SUCCEEDED)

    assert docker_project.outputs(run_id) == {"outputs/said": b"1", "node-1/outputs/said": b"0"}


@docker
@pytest.mark.timeout(600)
def test_a_forks_run_with_packages_of_its_own_leaves_no_image(
    docker_project: Project, docker_engine: DockerEngine, base_image: str
) -> None:
    environment = {"base": base_image, "pip": ["six==1.16.0"]}
    docker_project.write("import six; print(six.__version__, flush=True)", environment=environment)

    run_id = submit(docker_project)
    run = until(docker_project, run_id, State.SUCCEEDED)

    assert docker_project.log(run_id) == "1.16.0\n"
    assert run.environment == f"pushtrain/isolated:{run_id}"
    docker_project.pushtrain("runs")
    key = plan.from_json(docker_project.store.read(runs.key(run_id, "plan.json"))).environment.key
    wait = docker_engine.docker("image", "ls", "-q", "pushtrain/isolated")
    assert (wait, docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{key}")) == ("", "")


@docker
@pytest.mark.timeout(600)
def test_no_run_is_compared_with_a_forks(docker_project: Project) -> None:
    docker_project.write(METRIC, metrics={"primary": "accuracy", "fail_if": "< base"})
    forked = submit(docker_project, branch="main")
    until(docker_project, forked, State.SUCCEEDED)
    docker_project.write(METRIC.replace("0.5", "0.1"), metrics={"primary": "accuracy", "fail_if": "< base"})

    ours = submit(docker_project, fork=False, branch="main")
    until(docker_project, ours, State.SUCCEEDED)
    docker_project.write(METRIC.replace("0.5", "0.05"), metrics={"primary": "accuracy", "fail_if": "< base"})
    worse = submit(docker_project, fork=False, branch="feature")
    failed = until(docker_project, worse, State.FAILED)

    assert "0.1" in failed.verdict
