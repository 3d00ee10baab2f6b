"""Failures of gangs, each provoked for real: which rank, how it ended, why, and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.engines.project import Project
from tests.host.groups import made_group

pytestmark = [pytest.mark.slow]
MPI = {"resources": {"nodes": 2}, "distribution": {"type": "mpi", "processes_per_node": 2}}
SIDE_BY_SIDE = {"resources": {"nodes": 2}, "distribution": {"type": "none", "processes_per_node": 2}}
KINDS = pytest.mark.parametrize("sections", [MPI, SIDE_BY_SIDE], ids=["mpi", "none"])


@pytest.fixture
def gang(project: Project) -> Project:
    """A project in an image of its own where the engine takes images."""
    if "image" in project.environment:
        project.environment = {"base": project.environment["image"]}
    return project


def failed(project: Project, script: str, sections: dict[str, Any]) -> str:
    """What the command said of a run that failed, its words one space apart."""
    project.write(script, **sections)
    finished = project.pushtrain("run", within_s=400)
    assert finished.code != 0, finished.output
    assert project.run.state == "failed", finished.output + project.told()
    return " ".join(finished.output.split())


@KINDS
def test_a_package_that_is_missing(gang: Project, sections: dict[str, Any]) -> None:
    told = failed(gang, "if os.environ['PUSHTRAIN_RANK'] == '2': import absent\ntime.sleep(60)", sections)
    assert "rank 2 (node 1) ended with exit code 1: the package absent is missing" in told
    assert "environment.pip" in told


@KINDS
def test_a_port_in_use(gang: Project, sections: dict[str, Any]) -> None:
    script = """
    import socket
    if os.environ["PUSHTRAIN_RANK"] == "1":
        taken = socket.create_server(("127.0.0.1", 0))
        socket.create_server(taken.getsockname())
    time.sleep(60)
    """
    assert "rank 1 (node 0) ended with exit code 1: a port is in use" in failed(gang, script, sections)


@KINDS
def test_the_memory_of_a_gpu_that_is_full(gang: Project, sections: dict[str, Any]) -> None:
    """Its words only: there is no GPU here."""
    script = """
    if os.environ["PUSHTRAIN_RANK"] == "3":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB total capacity)")
    time.sleep(60)
    """
    told = failed(gang, script, sections)
    assert "rank 3 (node 1) ended with exit code 1: the GPU's memory is full" in told
    assert "batch" in told


@KINDS
def test_the_others_noise_is_not_taken_for_the_reason(gang: Project, sections: dict[str, Any]) -> None:
    """Rank 1 notices that rank 0 is gone, and ends before rank 0 has."""
    script = """
    import signal, socket
    signal.signal(signal.SIGTERM, lambda *_: None if os.environ["PUSHTRAIN_RANK"] == "0" else sys.exit(0))
    host, _, port = os.environ["PUSHTRAIN_CHIEF"].rpartition(":")
    if os.environ["PUSHTRAIN_RANK"] == "0":
        with socket.create_server(("", int(port))) as server:
            peer, _ = server.accept()
            peer.recv(1)
            peer.close()
        time.sleep(0.5)
        raise ValueError("a loss that is no number")
    if os.environ["PUSHTRAIN_RANK"] == "1":
        for _ in range(200):
            try:
                chief = socket.create_connection((host, int(port)))
                break
            except OSError:
                time.sleep(0.05)
        chief.send(b"x")
        if not chief.recv(1):
            raise ConnectionResetError("[Errno 104] Connection reset by peer")
    time.sleep(60)
    """
    told = failed(gang, script, {**sections, "timeout": {"grace": "10s"}})
    assert "rank 0 (node 0) ended with exit code 1: ValueError: a loss that is no number" in told


@pytest.mark.docker
@pytest.mark.timeout(600)
@KINDS
def test_a_rank_that_takes_more_memory_than_its_container_has(
    docker_project: Project, sections: dict[str, Any]
) -> None:
    docker_project.environment = {"base": docker_project.environment["image"]}
    script = """
    if os.environ["PUSHTRAIN_RANK"] == "2":
        full = bytearray(400 << 20)
        for i in range(0, len(full), 4096):
            full[i] = 1
    time.sleep(60)
    """
    told = failed(docker_project, script, {**sections, "resources": {"nodes": 2, "memory": "200MiB"}})
    assert "rank 2 (node 1) was ended by SIGKILL: out of memory: the kernel ended it" in told
    assert "resources.memory" in told


def test_a_rank_that_the_kernel_ends_for_memory_on_this_machine(local_project: Project) -> None:
    group = made_group()
    if group is None:
        pytest.skip("no group with a memory limit can be made here")
    script = f"""
    if os.environ["PUSHTRAIN_RANK"] == "2":
        open({str(group.folder / "cgroup.procs")!r}, "w").write(str(os.getpid()))
        full = [bytearray(b"x" * (8 << 20)) for _ in range(64)]
    time.sleep(60)
    """
    told = failed(local_project, script, MPI)
    group.folder.rmdir()
    assert "rank 2 (node 1) was ended by SIGKILL: out of memory: the kernel ended it" in told


def test_a_machine_without_mpirun_is_told_before_anything_starts(
    local_project: Project, tmp_path: Path
) -> None:
    local_project.write("print('never')", **MPI)
    (tmp_path / "bin").mkdir()
    for name in ("git", "sh"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    local_project.environ["PATH"] = str(tmp_path / "bin")
    finished = local_project.pushtrain("plan")
    assert finished.code != 0
    assert "openmpi-bin" in finished.output
