"""GPUs of this machine, found by a stand-in for NVML: no two runs have one at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.project import Project

FAKES = Path(__file__).parents[1] / "fakes"


def _gpus(project: Project, named: str) -> None:
    project.environ.update(PYTHONPATH=str(FAKES), FAKE_GPUS=named)


def _write(project: Project, **sections: object) -> None:
    project.write(
        """
        visible = os.environ["CUDA_VISIBLE_DEVICES"]
        open(f"outputs/{os.environ['PUSHTRAIN_RANK']}", "w").write(visible)
        print("has", visible, flush=True)
        hold()
        """,
        **{"resources": {"gpu": 1}, "policy": {"reuse": False}, **sections},
    )


def test_the_second_of_two_runs_waits_for_the_gpu_of_the_first(local_project: Project) -> None:
    _gpus(local_project, "NVIDIA H100 80GB HBM3:1")
    _write(local_project)
    first = local_project.pushtrain("run", "--detach").output.split()[0]
    local_project.until_prints("has GPU-fake-0", run_id=first)
    first_work = local_project.work()
    second = local_project.pushtrain("run", "--detach").output.split()[0]

    waiting = local_project.until("waiting", run_id=second)
    assert waiting.reason == f"waits for 1 GPU, behind {first}"
    (first_work / "go").touch()
    local_project.until("succeeded", run_id=first)
    local_project.until_prints("has GPU-fake-0", run_id=second)
    (first_work.parents[2] / second / "node-0/work/go").touch()
    local_project.until("succeeded", run_id=second)


def test_a_run_waits_no_longer_than_it_may(local_project: Project) -> None:
    _gpus(local_project, "NVIDIA H100 80GB HBM3:1")
    _write(local_project, timeout={"queue": "1s"})
    local_project.pushtrain("run", "--detach")
    local_project.until_prints("has GPU-fake-0")
    work = local_project.work()

    done = local_project.pushtrain("run")
    (work / "go").touch()

    assert done.code == 75, done.output
    assert "timeout.queue: no free GPUs within 1 s" in done.output
    local_project.until("succeeded", run_id=local_project.run_ids[0])


def test_a_waiting_run_is_cancelled(local_project: Project) -> None:
    _gpus(local_project, "NVIDIA H100 80GB HBM3:1")
    _write(local_project)
    local_project.pushtrain("run", "--detach")
    local_project.until_prints("has GPU-fake-0")
    work = local_project.work()
    second = local_project.start("run")
    local_project.until("waiting")

    second.interrupt()
    done = second.finish()
    (work / "go").touch()

    assert done.code == 130, done.output
    local_project.until("succeeded", run_id=local_project.run_ids[0])


@pytest.mark.parametrize("module", ["runner.supervise", "runner.host"])
def test_the_gpu_of_a_run_whose_processes_died_is_free_again(local_project: Project, module: str) -> None:
    _gpus(local_project, "NVIDIA H100 80GB HBM3:1")
    _write(local_project)
    local_project.pushtrain("run", "--detach")
    local_project.until_prints("has GPU-fake-0")
    local_project.kill(module)

    second = local_project.pushtrain("run", "--detach").output.split()[0]
    local_project.until_prints("has GPU-fake-0", run_id=second)
    local_project.let_go()
    local_project.until("succeeded", run_id=second)


def test_ranks_of_a_node_share_its_gpus_out_evenly(local_project: Project) -> None:
    _gpus(local_project, "NVIDIA H100 80GB HBM3:4")
    _write(
        local_project,
        resources={"gpu": 2, "nodes": 2},
        distribution={"type": "none", "processes_per_node": 2},
    )
    command = local_project.start("run")
    for rank in range(4):
        local_project.until_prints("has", rank=rank)
    local_project.let_go(node=0)
    local_project.let_go(node=1)

    assert command.finish().code == 0
    seen = {path: text.decode() for path, text in local_project.outputs().items()}
    assert sorted(seen.values()) == [f"GPU-fake-{number}" for number in range(4)]


def test_more_gpus_than_there_are_is_an_error_of_the_plan(local_project: Project) -> None:
    _write(local_project, resources={"gpu": "H100:2"})

    without = local_project.pushtrain("plan")
    _gpus(local_project, "Tesla V100-SXM2-16GB:2")
    others = local_project.pushtrain("run")

    assert without.code == others.code == 71, without.output + others.output
    assert "GPU" in without.output
    assert "V100" in others.output
    assert local_project.run_ids == ()
