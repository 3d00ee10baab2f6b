"""What a container of the engine `docker` is given, and what it is kept from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.host.containers import connect
from tests.engines.project import Project, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def test_nodes_reach_each_other_by_name(docker_project: Project) -> None:
    docker_project.write(
        """
        import socket
        node = os.environ["PUSHTRAIN_NODE_RANK"]
        assert socket.gethostname() == "node-" + node
        with socket.create_server(("", 4000)) as server:
            for _ in range(500):
                try:
                    peer = socket.create_connection((f"node-{1 - int(node)}", 4000))
                    break
                except OSError:
                    time.sleep(0.02)
            peer.sendall(node.encode())
            said = server.accept()[0].recv(10).decode()
        open("outputs/said", "w").write(said)
        """,
        resources={"nodes": 2},
    )

    done = docker_project.pushtrain("run")

    assert done.code == 0, done.output
    assert docker_project.outputs() == {"outputs/said": b"1", "node-1/outputs/said": b"0"}


def test_ranks_of_a_node_share_memory_and_network_even_after_one_ended(docker_project: Project) -> None:
    docker_project.write(
        """
        import socket
        if os.environ["PUSHTRAIN_RANK"] == "1":
            open("/dev/shm/word", "w").write("shared")
            sys.exit()
        hold("/dev/shm/word")
        hold()
        with socket.create_server(("", 4000)) as server:
            socket.create_connection((socket.gethostbyname(socket.gethostname()), 4000))
        open("outputs/got", "w").write(open("/dev/shm/word").read())
        """,
        distribution={"type": "none", "processes_per_node": 2},
    )

    command = docker_project.start("run")
    docker_project.until("running")
    _until_ranks(docker_project, 1)
    docker_project.let_go()
    done = command.finish()

    assert done.code == 0, done.output
    assert docker_project.outputs()["outputs/got"] == b"shared"


def _until_ranks(project: Project, count: int) -> None:
    def there() -> bool:
        pythons = [p for p in project.ranks() if b"train.py" in _words(p) and b"trap" not in _words(p)]
        return len(pythons) == count and (project.work() / "go").parent.exists()

    wait_for(there, what=f"{count} ranks", told=project.told)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_container_is_confined(docker_project: Project, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("kept")
    docker_project.write(
        """
        import json
        def may_write(path):
            try:
                open(path, "w").write("changed")
            except OSError:
                return False
            return True
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        shm = os.statvfs("/dev/shm")
        facts = {
            "capabilities": [status[n].strip() for n in ("CapEff", "CapPrm", "CapInh", "CapBnd")],
            "new_privileges": status["NoNewPrivs"].strip(),
            "uid": os.getuid(),
            "shm": shm.f_frsize * shm.f_blocks,
            "sockets": [p for p in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(p)],
            "wrote": [p for p in ("/datasets/data/file", "/etc/new", "/proc/sys/kernel/hostname") if may_write(p)],
        }
        json.dump(facts, open("outputs/facts.json", "w"))
        print("told", flush=True)
        hold()
        """,
        resources={"memory": "256MiB", "cpu": 0.5, "shm": "64MiB"},
        datasets={"data": {"source": str(tmp_path / "data")}},
    )

    command = docker_project.start("run")
    docker_project.until_prints("told")
    (settings,) = _settings(docker_project)
    docker_project.let_go()
    done = command.finish()

    assert done.code == 0, done.output
    assert json.loads(docker_project.outputs()["outputs/facts.json"]) == {
        "capabilities": ["0" * 16] * 4,
        "new_privileges": "1",
        "uid": 1000,
        "shm": 64 << 20,
        "sockets": [],
        "wrote": [],
    }
    assert (tmp_path / "data/file").read_text() == "kept"
    assert (settings["Memory"], settings["NanoCpus"], settings["PidsLimit"]) == (256 << 20, 500_000_000, 4096)


def _settings(project: Project) -> list[dict[str, object]]:
    client = connect()
    try:
        labelled = client.containers.list(filters={"label": f"pushtrain.run={project.run_ids[-1]}"})
        return [container.attrs["HostConfig"] for container in labelled]
    finally:
        client.close()


def test_a_rank_that_needs_more_memory_than_asked_for_is_told_so(docker_project: Project) -> None:
    docker_project.write(
        "block = [bytearray(1 << 20) for _ in range(400)]",
        resources={"memory": "128MiB"},
    )

    done = docker_project.pushtrain("run")

    assert done.code == 137, done.output
    assert "rank 0 was ended by SIGKILL: out of memory" in done.output


def test_what_a_container_wrote_can_be_removed_by_the_user(docker_project: Project) -> None:
    docker_project.write(
        """
        os.makedirs("outputs/closed")
        open("outputs/closed/file", "w").write("x")
        os.chmod("outputs/closed", 0o500)
        """
    )

    done = docker_project.pushtrain("run")

    assert done.code == 0, done.output
    assert docker_project.outputs() == {"outputs/closed/file": b"x"}


@pytest.mark.slow
def test_an_environment_is_built_once_and_a_change_of_source_builds_nothing(
    docker_project: Project, base_image: str
) -> None:
    environment = {"base": base_image, "pip": ["six==1.17.0"]}
    docker_project.write(
        "import six; print(six.__version__)", run=None, entrypoint="train.py", environment=environment
    )
    first = docker_project.pushtrain("run", within_s=300)
    docker_project.write(
        "import six; print('changed')", run=None, entrypoint="train.py", environment=environment
    )
    second = docker_project.pushtrain("run")

    assert (first.code, second.code) == (0, 0), first.output + second.output
    assert "1.17.0" in first.output
    assert "changed" in second.output
    build = docker_project.pushtrain("logs", docker_project.run_ids[1], "--build")
    assert build.output.startswith("nothing was built for it; ")


def test_a_killed_run_leaves_no_network_and_its_nodes_go_on_in_a_new_one(docker_project: Project) -> None:
    docker_project.write(
        """
        print("attempt", os.environ["PUSHTRAIN_ATTEMPT"], flush=True)
        hold()
        """,
        resources={"nodes": 2},
        distribution={"type": "none", "processes_per_node": 2},
    )
    docker_project.pushtrain("run", "--detach")
    for rank in range(4):
        docker_project.until_prints("attempt 1", rank=rank)
    for module in ("runner.supervise", "runner.host"):
        docker_project.kill(module)

    resumed = docker_project.start("resume", "last")
    for rank in range(4):
        docker_project.until_prints("attempt 2", attempt=2, rank=rank)
    docker_project.let_go(node=0)
    docker_project.let_go(node=1)

    assert resumed.finish().code == 0
