"""A run that somebody wants to end: with grace first, then at once."""

from __future__ import annotations

import time

from tests.engines.project import Command, Finished, Project

SAVES = """
import signal
def save(*_):
    open("outputs/saved", "w").write("in time")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
hold()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
print("ready", flush=True)
hold()
"""


def _ready(project: Project, *arguments: str) -> Command:
    command = project.start("run", *arguments)
    project.until_prints("ready")
    return command


def _cancelled(project: Project, done: Finished) -> None:
    assert done.code == 130, done.output
    assert project.run.state == "cancelled"
    assert project.run.exit_code == 130


def test_ctrl_c_lets_the_ranks_save_and_keeps_what_they_saved(project: Project) -> None:
    project.write(SAVES)
    command = _ready(project)

    command.interrupt()
    done = command.finish()

    _cancelled(project, done)
    assert project.outputs() == {"outputs/saved": b"in time"}


def test_the_second_ctrl_c_kills_at_once(project: Project) -> None:
    project.write(STUBBORN, timeout={"grace": "10m"})
    command = _ready(project)

    command.interrupt()
    project.until_prints("no")
    since_s = time.monotonic()
    command.interrupt()
    done = command.finish()

    _cancelled(project, done)
    assert time.monotonic() - since_s < 30


def test_ranks_that_ignore_the_request_are_killed_after_their_grace(project: Project) -> None:
    project.write(STUBBORN, timeout={"grace": "1s"})
    command = _ready(project)

    command.interrupt()
    done = command.finish()

    _cancelled(project, done)
    assert project.log(project.run.id) == "ready\nno\n"


def test_cancel_ends_a_run_that_nobody_follows(project: Project) -> None:
    project.write(SAVES)
    _ready(project, "--detach")

    done = project.pushtrain("cancel", "last")

    assert (done.code, project.run.state) == (0, "cancelled"), done.output
    assert project.outputs() == {"outputs/saved": b"in time"}


def test_a_run_is_cancelled_while_its_environment_is_made(local_project: Project) -> None:
    local_project.write("print('never')")
    with local_project.held_environment():
        command = local_project.start("run")
        local_project.until("preparing")
        command.interrupt()
        done = command.finish()

    _cancelled(local_project, done)
    assert local_project.run.attempts == ()
