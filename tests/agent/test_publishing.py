"""Runs of a fleet that nobody types: started by a watcher or by a job, told of and published by whoever is left."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import pipeline, runs
from tests.agent.joined import begun, give_token
from tests.agent.publishing import (
    ACTIONS_HOME,
    HOLDS,
    FleetScene,
    carriers_of,
    files_with,
    forward,
    kill,
    places,
    project,
    stop,
)
from tests.answer.scene import files, team
from tests.engines.project import wait_for
from tests.fixtures.github import serving
from tests.lab import Lab
from tests.services.github import GitHub

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(240)]

WITHIN_S = 120.0
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def hub(
    bare_lab_session: Lab, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GitHub]:
    """A GitHub that the hosts reach."""
    folder = tmp_path_factory.mktemp("github")
    with serving(folder, node_modules=node_modules, host=bare_lab_session.plan.outside) as server:
        yield server


@pytest.fixture(scope="module")
def fleet(bare_lab_session: Lab, hub: GitHub) -> Iterator[Lab]:
    """A fleet whose head publishes by its own token, and whose client has that token too."""
    lab = bare_lab_session
    environ = {"GITHUB_API_URL": hub.url, "GITHUB_SERVER_URL": hub.url}
    with begun(lab, store=lab.plan.share / "published", token=hub.token, environ=environ):
        give_token(lab.host("h3"), hub.token)
        for name in ("h0", "h3"):
            forward(hub, to=lab.host(name))
        yield lab


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, fleet: Lab, hub: GitHub, node_modules: Path, tmp_path: Path
) -> Iterator[FleetScene]:
    """A repository that is trained on all hosts of the fleet; nothing of its runs may be left when a test has ended."""
    folder = fleet.plan.share / tmp_path.name
    folder.mkdir()
    head = project(folder, "h0", lab=fleet, store=fleet.plan.share / "published", github=hub)
    number = next(_NUMBERS)
    repository, webhooks = team(
        hub, node_modules, name=f"lab/digits-{number}", content={"README.md": "Digits\n"}
    )
    made = FleetScene(
        project=head,
        github=hub,
        repository=repository,
        webhooks=webhooks,
        folder=folder,
        token=hub.token,
        within_s=WITHIN_S,
        model=f"digits-{number}",
    )
    repository.push("main", files(HOLDS, **made.sections()), by="ada")
    failed = request.session.testsfailed
    try:
        yield made
        if request.session.testsfailed == failed:
            wait_for(
                lambda: not head.leftovers(),
                what="nothing of an ended run left",
                told=lambda: "\n".join([*head.leftovers(), made.heard()]),
            )
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def speaking(scene: FleetScene, *, number: int = 1) -> tuple[str, ...]:
    """The newest runs of the repository, each with a rank that waits to be let go."""
    wait_for(lambda: len(scene.runs()) >= number, what=f"{number} runs", told=scene.heard, within_s=WITHIN_S)
    found = scene.runs()
    wait_for(
        lambda: all("begun" in scene.project.log(run_id) for run_id in found),
        what="ranks that wait",
        told=scene.heard,
        within_s=WITHIN_S,
    )
    return found


def told_once(scene: FleetScene, run_id: str) -> None:
    """The run ends well, and GitHub has one green check and one release of it, in the end and for good."""
    scene.let_go(run_id)
    check = scene.until_check(status="completed")
    assert (check.conclusion, check.external_id) == ("success", run_id), scene.heard()
    scene.until_released(f"{scene.model}@v1.0.0")
    scene.until_nothing_is_due()
    assert [run_id] == list(scene.runs())
    assert len(scene.repository.checks()) == 1
    assert [each.tag for each in scene.repository.releases()] == [f"{scene.model}@v1.0.0"]


def kept_secret(scene: FleetScene, *, given_to: str = "") -> None:
    """The token is in no file but its own, and only a command that was given it itself has it."""
    carriers = carriers_of(scene.token)
    assert bool(carriers) == bool(given_to)
    assert [each for each in carriers if given_to not in each] == []
    assert files_with(scene.token, Path(scene.project.store_uri), *places(scene.project.hosts)) == []


def test_a_push_and_a_comment_train_on_the_fleet_and_the_token_stays_on_the_head(scene: FleetScene) -> None:
    pull = scene.pull(HOLDS, **scene.sections(resources={"nodes": 1}))
    command = scene.watching()
    scene.push(HOLDS, **scene.sections())
    (pushed,) = speaking(scene)
    scene.until_check(status="in_progress")
    kept_secret(scene)
    scene.let_go(pushed)
    scene.until_released(f"{scene.model}@v1.0.0")
    scene.comment(pull, "/train accuracy=0.8")
    _, asked = speaking(scene, number=2)
    scene.let_go(asked)
    scene.until_reaction(pull, "rocket")
    scene.until_nothing_is_due()
    assert stop(command).code == 0
    for run_id, trigger in ((pushed, "push"), (asked, "comment")):
        plan = pipeline.plan_of(scene.project.store, run_id)
        assert (plan.engine, plan.asked.trigger, plan.asked.by) == ("slurm", trigger, "ada")
    assert {each.conclusion for each in scene.repository.checks()} == {"success"}
    (said,) = scene.answers(pull)
    assert "0.8" in said
    (release,) = scene.repository.releases()
    assert release.tag == f"{scene.model}@v1.0.0"
    kept_secret(scene)


def test_a_run_whose_watcher_and_publisher_were_killed_is_published_once_by_the_next_publisher(
    scene: FleetScene,
) -> None:
    command = scene.watching()
    scene.push(HOLDS, **scene.sections())
    (run_id,) = speaking(scene)
    scene.until_check(status="in_progress")
    kill(command)
    scene.project.kill_daemon("h0", "publisher")
    told_once(scene, run_id)


def test_a_run_outlives_the_job_that_started_it_and_the_publisher_says_the_rest(scene: FleetScene) -> None:
    scene.project.environ["PUSHTRAIN_HOME"] = ACTIONS_HOME
    job = scene.start(scene.push(HOLDS, **scene.sections()))
    (run_id,) = speaking(scene)
    scene.until_check(status="in_progress")
    kept_secret(scene, given_to="pushtrain github event")
    kill(job)
    told_once(scene, run_id)
    kept_secret(scene)


def test_a_job_on_a_client_follows_its_run_on_the_fleet_to_the_end(scene: FleetScene) -> None:
    scene.project.me = "h3"
    job = scene.start(scene.push(HOLDS, **scene.sections()))
    (run_id,) = speaking(scene)
    scene.let_go(run_id)
    assert job.finish(within_s=WITHIN_S).code == 0, scene.heard()
    told = scene.outputs()
    assert (told["run-id"], told["state"], told["model"]) == (run_id, "succeeded", f"{scene.model}@1.0.0")
    assert (Path(told["artifacts"]) / "outputs" / "model" / "weights.bin").read_bytes() == b"weights of 0.9"
    assert scene.model in scene.summary()
    assert scene.check.conclusion == "success"
    assert [each.tag for each in scene.repository.releases()] == [f"{scene.model}@v1.0.0"]


def test_a_job_that_is_cancelled_ends_its_run_on_the_fleet(scene: FleetScene) -> None:
    job = scene.start(scene.push(HOLDS, **scene.sections()))
    (run_id,) = speaking(scene)
    assert stop(job).code == 130
    run = runs.load(scene.project.store, run_id)
    # Where the job was at its end before it had made the check, the publisher does.
    check = scene.until_check(status="completed")
    assert (run.state, check.conclusion) == (runs.State.CANCELLED, "cancelled")


def test_two_watchers_on_two_machines_and_a_publisher_start_and_say_everything_once(
    scene: FleetScene,
) -> None:
    other = scene.machine("h3")
    pull = scene.pull(HOLDS, **scene.sections(resources={"nodes": 1}))
    commands = [scene.watching(), scene.watching(on=other)]
    scene.push(HOLDS, **scene.sections(resources={"nodes": 1}))
    scene.comment(pull, "/train accuracy=0.8")
    for run_id in speaking(scene, number=2):
        scene.let_go(run_id)
    scene.until_reaction(pull, "rocket")
    scene.until_released(f"{scene.model}@v1.0.0")
    scene.until_nothing_is_due()
    for _ in range(2):
        scene.until_looked_again()
    assert [stop(each).code for each in commands] == [0, 0]
    assert len(scene.runs()) == 2
    assert [each.conclusion for each in scene.repository.checks()] == ["success", "success"]
    assert len(scene.answers(pull)) == 1
    assert len(scene.repository.releases()) == 1


def test_a_run_whose_watcher_was_killed_as_soon_as_it_had_a_job_is_not_started_again_by_another(
    scene: FleetScene,
) -> None:
    other = scene.machine("h3")
    for each in (scene.project, other):
        each.environ["PUSHTRAIN_LEASE_S"] = "2"  # Another watcher takes a claim over after four of them.
    command = scene.watching()
    scene.push(HOLDS, **scene.sections())
    wait_for(scene.project.jobs, what="a job", told=scene.heard, within_s=WITHIN_S)
    kill(command)
    command = scene.watch(on=other)
    (run_id,) = speaking(scene)
    told_once(scene, run_id)
    scene.until_looked_again()
    assert stop(command).code == 0
    assert scene.runs() == (run_id,)
