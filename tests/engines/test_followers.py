"""The command only follows: killed with -9 in any state, the run goes on and can be followed again."""

from __future__ import annotations

import pytest

from runner import runs
from tests.engines.project import Command, Finished, Project, wait_for

SCRIPT = """
print("first line", flush=True)
hold()
open("outputs/done", "w").write("yes")
print("last line", flush=True)
"""


def _kill(command: Command) -> None:
    command.child.kill()
    command.child.wait()


def _complete(project: Project, followed: Finished) -> None:
    assert followed.code == 0, followed.output
    assert followed.output == "first line\nlast line\n"
    assert project.run.state == "succeeded"
    assert project.outputs() == {"outputs/done": b"yes"}


def _let_go(project: Project) -> None:
    project.until_prints("first line")
    project.let_go()


def test_killed_as_soon_as_the_run_is_submitted(project: Project) -> None:
    project.write(SCRIPT)
    command = project.start("run")
    wait_for(lambda: project.processes("runner.supervise"), what="a supervisor")
    _kill(command)

    wait_for(lambda: list(runs.listing(project.store)), what="a run")
    follower = project.start("logs", "-f", "last")
    _let_go(project)

    _complete(project, follower.finish())


def test_killed_while_the_environment_is_made(local_project: Project) -> None:
    local_project.write(SCRIPT)
    with local_project.held_environment():
        command = local_project.start("run")
        local_project.until("preparing")
        _kill(command)
        follower = local_project.start("logs", "-f", "last")
    _let_go(local_project)

    _complete(local_project, follower.finish())


def test_killed_while_the_ranks_run(project: Project) -> None:
    project.write(SCRIPT)
    command = project.start("run")
    project.until_prints("first line")
    _kill(command)

    follower = project.start("logs", "-f", "last")
    project.let_go()

    _complete(project, follower.finish())


@pytest.mark.parametrize("state", ["collecting", "publishing"])
def test_killed_while_outputs_are(local_project: Project, state: str) -> None:
    local_project.write(SCRIPT)
    command = local_project.start("run")
    local_project.until_prints("first line")
    with local_project.held_stage(state):
        local_project.let_go()
        local_project.until(state)
        _kill(command)
        follower = local_project.start("logs", "-f", "last")

    _complete(local_project, follower.finish())


def test_a_follower_passes_the_exit_code_on(local_project: Project) -> None:
    local_project.write("hold(); sys.exit(9)")
    local_project.pushtrain("run", "--detach")
    local_project.until("running")
    follower = local_project.start("logs", "-f", "last")
    wait_for(local_project.work().exists, what="the working folder")
    local_project.let_go()

    assert follower.finish().code == 9


def test_a_follower_is_told_when_nobody_supervises(local_project: Project) -> None:
    local_project.write(SCRIPT)
    command = local_project.start("run")
    local_project.until_prints("first line")
    local_project.kill("runner.supervise")
    done = command.finish()

    assert done.code == 72, done.output
    assert f"tip: pushtrain resume {local_project.run.id}" in done.output
    wait_for(lambda: not local_project.ranks(), what="the end of the ranks without a supervisor")
