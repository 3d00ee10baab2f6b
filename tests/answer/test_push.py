from __future__ import annotations

from tests.answer.scene import Scene, metrics


def test_a_push_trains_and_ends_in_a_green_check_and_a_release(scene: Scene) -> None:
    done = scene.job(scene.push())
    assert done.code == 0, done.output
    assert "trained" in done.output
    assert scene.run.state == "succeeded"
    check = scene.check
    assert (check.status, check.conclusion) == ("completed", "success")
    assert check.external_id == scene.run.id
    outputs = scene.outputs()
    assert outputs["run-id"] == scene.run.id
    assert outputs["state"] == "succeeded"
    assert outputs["model"] == "digits@1.0.0"
    assert metrics(outputs) == {"accuracy": 0.9}
    release = scene.repository.release("digits@v1.0.0")
    assert not release.draft
    assert "digits" in scene.summary()
