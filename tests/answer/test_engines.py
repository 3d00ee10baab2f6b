"""Which engine a comment or the form may ask for: none that keeps a training less apart than the machine's own."""

from __future__ import annotations

from tests.answer.scene import Scene


def test_a_comment_cannot_take_a_training_out_of_its_container(scene: Scene) -> None:
    scene.project.engine = "docker"
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train --engine local"))
    assert (done.code, scene.project.run_ids) == (77, ())
    (answer,) = scene.answers(pull)
    assert "the engine local" in answer
    assert "here trainings run with docker" in answer


def test_neither_can_the_form(scene: Scene) -> None:
    scene.project.engine = "docker"
    done = scene.job(scene.webhooks.workflow_dispatch({"engine": "local"}))
    assert (done.code, scene.project.run_ids) == (77, ())
    assert "leave --engine local out" in done.output


def test_the_machines_own_engine_may_be_named(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train --engine local accuracy=0.8"))
    assert done.code == 0, done.output
    assert scene.run.engine == "local"
