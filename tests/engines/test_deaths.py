"""Processes of the product killed with -9: nothing runs on as an orphan, and `resume` takes the run up again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.engines.project import Project, wait_for

STEPS = """
path = os.environ.get("PUSHTRAIN_RESUME_FROM")
begun = int(open(path + "/step").read()) if path else 0
os.makedirs("outputs/checkpoints", exist_ok=True)
open("outputs/checkpoints/step.new", "w").write(str(begun + 1))
os.rename("outputs/checkpoints/step.new", "outputs/checkpoints/step")
print("begun at", begun, flush=True)
hold()
open("outputs/done", "w").write(f"from {begun}")
"""
KEPT = {"outputs": {"checkpoints": "outputs/checkpoints"}}


def _started(project: Project, **sections: object) -> None:
    project.write(STEPS, **{**KEPT, **sections})
    project.pushtrain("run", "--detach")
    project.until_prints("begun at 0")


def _synced(project: Project) -> None:
    key = f"runs/{project.run_ids[-1]}/live/node-0/outputs/checkpoints/step"
    wait_for(lambda: key in project.store.keys(key), what=f"{key} in the store", told=project.told)


def _nothing_runs(project: Project) -> None:
    wait_for(
        lambda: not (project.ranks() + project.processes("runner.host")),
        what="the end of what nobody supervises",
        told=project.told,
        within_s=20,
    )


def test_without_a_supervisor_the_ranks_end_within_the_lease(project: Project) -> None:
    _started(project)
    _synced(project)
    project.kill("runner.supervise")

    _nothing_runs(project)
    resumed = project.start("resume", "last")
    project.until_prints("begun at 1", attempt=2)
    project.let_go()
    done = resumed.finish()

    assert done.code == 0, done.output
    assert [a.outcome for a in project.run.attempts] == ["lost", "succeeded"]
    assert project.outputs()["outputs/done"] == b"from 1"


def test_what_was_synced_survives_the_machines_scratch_folder(local_project: Project) -> None:
    _started(local_project)
    _synced(local_project)
    local_project.kill("runner.supervise")
    _nothing_runs(local_project)
    scratch = local_project.work().parents[1]
    scratch.rename(scratch.with_name("lost"))

    resumed = local_project.start("resume", "last")
    local_project.until_prints("begun at 1", attempt=2)
    local_project.let_go()

    assert resumed.finish().code == 0
    assert local_project.outputs()["outputs/done"] == b"from 1"


def test_a_new_supervisor_follows_the_training_that_still_lives(project: Project) -> None:
    project.environ["PUSHTRAIN_LEASE_S"] = "120"
    _started(project)
    ranks = sorted(project.ranks())
    project.kill("runner.supervise")

    resumed = project.start("resume", "last")
    wait_for(lambda: project.processes("runner.supervise"), what="a new supervisor")
    wait_for(lambda: "still runs" in project.told(), what="the adoption")
    assert sorted(project.ranks()) == ranks
    project.let_go()
    done = resumed.finish()

    assert done.code == 0, done.output
    assert [a.outcome for a in project.run.attempts] == ["succeeded"]
    assert project.outputs()["outputs/done"] == b"from 0"
    assert project.log(project.run.id) == "begun at 0\n"


def test_a_training_that_ended_while_nobody_supervised_is_not_repeated(local_project: Project) -> None:
    local_project.environ["PUSHTRAIN_LEASE_S"] = "120"
    _started(local_project)
    local_project.kill("runner.supervise")
    local_project.let_go()
    wait_for(lambda: not local_project.ranks(), what="the end of the training")

    done = local_project.pushtrain("resume", "last")

    assert done.code == 0, done.output
    assert len(local_project.run.attempts) == 1
    assert local_project.log(local_project.run.id) == "begun at 0\n"
    assert local_project.outputs()["outputs/done"] == b"from 0"


def test_the_supervisor_killed_while_the_environment_is_made(local_project: Project) -> None:
    local_project.write("open('outputs/done', 'w').write('yes')")
    with local_project.held_environment():
        local_project.pushtrain("run", "--detach")
        local_project.until("preparing")
        local_project.kill("runner.supervise")

    done = local_project.pushtrain("resume", "last")

    assert done.code == 0, done.output
    assert local_project.outputs() == {"outputs/done": b"yes"}


@pytest.mark.parametrize("state", ["collecting", "publishing"])
def test_the_supervisor_killed_while_outputs_are(local_project: Project, state: str) -> None:
    _started(local_project)
    with local_project.held_stage(state):
        local_project.let_go()
        local_project.until(state)
        local_project.kill("runner.supervise")

    done = local_project.pushtrain("resume", "last")

    assert done.code == 0, done.output
    assert len(local_project.run.attempts) == 1
    assert local_project.outputs()["outputs/done"] == b"from 0"


def test_the_leash_ends_the_ranks_of_a_host_process_that_died(project: Project) -> None:
    _started(project)
    project.kill("runner.host")

    project.until("failed")

    assert "the host process of node 0 died" in project.run.reason
    assert project.outputs()["outputs/checkpoints/step"] == b"1"
    _nothing_runs(project)


def test_a_lost_node_is_retried_from_its_checkpoint(project: Project) -> None:
    _started(project, retry={"max": 1, "on": ["node-lost"]})
    _synced(project)
    project.kill("runner.host")

    project.until_prints("begun at 1", attempt=2)
    project.let_go()
    project.until("succeeded")

    assert [a.outcome for a in project.run.attempts] == ["lost", "succeeded"]
    assert project.outputs()["outputs/done"] == b"from 1"


def test_supervisor_and_host_killed_at_once_leave_no_rank(project: Project) -> None:
    _started(project)
    _synced(project)
    for pid in project.processes("runner.supervise") + project.processes("runner.host"):
        os.kill(pid, signal.SIGKILL)

    _nothing_runs(project)
    resumed = project.start("resume", "last")
    project.until_prints("begun at 1", attempt=2)
    project.let_go()

    assert resumed.finish().code == 0
    assert project.outputs()["outputs/done"] == b"from 1"


def test_a_run_does_not_need_its_leash_to_end_well(project: Project) -> None:
    _started(project)
    project.kill("runner.host.leash")
    project.let_go()

    project.until("succeeded")


def test_one_of_two_nodes_lost_ends_the_other(local_project: Project) -> None:
    _started(local_project, resources={"nodes": 2})
    local_project.until_prints("begun at 0", rank=1)
    os.kill(local_project.processes("runner.host")[0], signal.SIGKILL)

    local_project.until("failed")

    assert "died" in local_project.run.reason
    _nothing_runs(local_project)


def test_an_ended_run_is_not_taken_up_again(local_project: Project) -> None:
    local_project.write("pass")
    assert local_project.pushtrain("run").code == 0

    done = local_project.pushtrain("resume", "last")

    assert done.code == 73, done.output
    assert "there is nothing to take up" in done.output


def test_ranks_that_ignore_sigterm_never_meet_those_of_the_next_attempt(project: Project) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    project.write(stubborn + STEPS, **KEPT, retry={"max": 1, "on": ["node-lost"]})
    project.pushtrain("run", "--detach")
    project.until_prints("begun at 0")
    before = set(project.ranks())
    project.kill("runner.host")

    project.until_prints("begun at 1", attempt=2)
    after = set(project.ranks())
    assert after
    assert not before & after
    # The guardian of the first attempt goes on for its grace; it must not take the second one's ranks for its own.
    wait_for(lambda: len(project.processes("runner.host.leash")) == 1, what="the end of the first leash")
    assert set(project.ranks()) == after
    project.let_go()
    project.until("succeeded")


def test_ranks_without_host_and_leash_do_not_outlive_the_run(project: Project) -> None:
    _started(project)
    for module in ("runner.host.leash", "runner.host"):
        project.kill(module)

    project.until("failed")
    _nothing_runs(project)


def test_ranks_that_are_being_stopped_are_not_taken_over(local_project: Project) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    local_project.environ["PUSHTRAIN_LEASE_S"] = "0.2"
    local_project.write(stubborn + STEPS, **KEPT)
    local_project.pushtrain("run", "--detach")
    local_project.until_prints("begun at 0")
    local_project.kill("runner.supervise")
    wait_for(lambda: "nobody took the run over" in local_project.told(), what="the end of the lease")

    resumed = local_project.start("resume", "last")
    local_project.until_prints("begun at 1", attempt=2)
    local_project.let_go()

    assert resumed.finish().code == 0
    assert [a.outcome for a in local_project.run.attempts] == ["lost", "succeeded"]


def test_all_nodes_go_on_from_the_same_checkpoints_though_their_hosts_were_killed(
    local_project: Project,
) -> None:
    """What rank 0 wrote since it was last stored is on its own node only."""
    local_project.write(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # It saves for as long as it may.
        folder = os.environ.get("PUSHTRAIN_RESUME_FROM")
        step = int(open(folder + "/step").read()) if folder else 0
        print("begun at", step, flush=True)
        while os.environ["PUSHTRAIN_ATTEMPT"] == "1" and os.environ["PUSHTRAIN_RANK"] == "0":
            step += 1
            open("outputs/new", "w").write(str(step))
            os.makedirs("outputs/checkpoints", exist_ok=True)
            os.rename("outputs/new", "outputs/checkpoints/step")
            time.sleep(0.01)
        if os.environ["PUSHTRAIN_ATTEMPT"] == "1":
            hold()
        """,
        resources={"nodes": 2},
        distribution={"type": "none"},
        retry={"max": 1},
        **KEPT,
    )
    command = local_project.start("run")
    local_project.until_prints("begun at 0", rank=1)
    _synced(local_project)
    local_project.kill("runner.host")

    done = command.finish()

    assert done.code == 0, done.output
    logs = [local_project.log(local_project.run.id, attempt=2, rank=rank) for rank in range(2)]
    assert logs[0] == logs[1] != "begun at 0\n"
    assert [a.outcome for a in local_project.run.attempts] == ["lost", "succeeded"]
