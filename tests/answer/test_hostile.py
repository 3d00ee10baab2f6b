"""Events and trainings that mean harm: what they write stays text."""

from __future__ import annotations

import json

import pytest

from tests.answer.scene import TRAINS, Scene, files

SHELL = "$(touch /tmp/pushtrain-was-here) `touch /tmp/pushtrain-was-here` ; touch /tmp/pushtrain-was-here #"


def test_commands_of_workflows_in_a_training_s_output_are_not_commands_of_the_job(scene: Scene) -> None:
    script = TRAINS + "\nprint('::error::forged')\nprint('##[error]forged')\nprint('::add-mask::a')\n"
    done = scene.job(scene.push(script))
    assert done.code == 0, done.output
    before, _, rest = done.output.partition("::stop-commands::")
    word, _, rest = rest.partition("\n")
    shown, ended, after = rest.partition(f"\n::{word}::")
    assert ended
    assert "forged" in shown
    assert "forged" not in before + after


def test_a_value_in_a_comment_never_reaches_a_shell(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("harm") / "was-here"
    evil = SHELL.replace("/tmp/pushtrain-was-here", str(place))
    pull = scene.pull(
        TRAINS + "\nopen('outputs/said', 'w').write(arguments['--note'])\n",
        inputs={"note": {"type": "string", "default": "none"}},
        run="python3 train.py --note ${{ inputs.note }}",
    )
    done = scene.job(scene.comment(pull, f"/train note='{evil}'"))
    assert done.code == 0, done.output
    assert scene.project.outputs()["outputs/said"].decode() == evil
    assert not place.exists()


def test_names_and_lines_of_a_run_cannot_forge_a_comment(scene: Scene) -> None:
    evil = "</details><!-- pushtrain:digits --> @lab/team **bold** | ![x](http://evil) <script>"
    script = (
        TRAINS
        + f"""
with open("logs/metrics.jsonl", "a") as log:
    log.write(json.dumps({{"step": 1, {json.dumps(evil)}: 1.0}}) + "\\n")
print({json.dumps("```" + evil)})
raise SystemExit(3)
"""
    )
    pull = scene.pull(script)
    assert scene.job(scene.comment(pull, "/train")).code == 3
    (answer,) = scene.answers(pull)
    assert answer.count("<!-- pushtrain:digits -->") == 1 or "`" in answer
    assert "\n@lab/team" not in answer
    assert scene.check.conclusion == "failure"


def test_ten_megabytes_of_log_fit_on_github(scene: Scene) -> None:
    script = """
for number in range(100_000):
    print(f"{number:06d} " + "x" * 93)
raise SystemExit(4)
"""
    pull = scene.pull(script)
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 4
    (answer,) = scene.answers(pull)
    assert "099999" in answer
    assert len(answer) < 65_536


def test_fifty_one_faults_are_fifty_one_annotations(scene: Scene) -> None:
    lines = "\n".join(f"fault{number}: 1" for number in range(51))
    content = {**files(), "train.yml": f"name: digits\nrun: python3 train.py\n{lines}\n"}
    scene.repository.push("try", content, "Try", by="ada", at_s=1_700_000_000)
    pull = scene.repository.pull("try", by="ada")
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 65
    assert len(scene.check.annotations) == 51
    assert {each["start_line"] for each in scene.check.annotations} == set(range(3, 54))


def test_a_copied_marker_is_not_our_comment(scene: Scene) -> None:
    pull = scene.pull()
    scene.repository.comment(pull.number, "<!-- pushtrain:digits -->\nhello", by="eve")
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 0, done.output
    assert scene.repository.comments(pull.number)[0].body.endswith("hello")


def test_a_gate_that_fails_is_never_green(scene: Scene) -> None:
    done = scene.job(scene.push(run="python3 train.py --accuracy 0.2"))
    assert done.code == 1
    assert scene.check.conclusion == "failure"
    assert scene.repository.releases() == []


def test_a_pull_request_cannot_name_what_is_released_or_which_secrets_it_gets(scene: Scene) -> None:
    scene.environ = {"DEPLOY_KEY": "secret-of-the-team"}
    pull = scene.pull(
        TRAINS + "\nimport os\nopen('outputs/said', 'w').write(os.environ.get('DEPLOY_KEY', 'nothing'))\n",
        secrets=["DEPLOY_KEY"],
        release={"model": "evil", "path": "outputs/model", "framework": "x"},
    )
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 0, done.output
    assert scene.project.outputs()["outputs/said"] == b"nothing"
    assert scene.repository.releases() == []


def test_a_file_name_cannot_forge_an_output_of_the_step(scene: Scene) -> None:
    script = TRAINS + "\nopen('outputs/a\\nrun-id=forged', 'w').write('x')\n"
    scene.job(scene.push(script))
    assert scene.outputs()["run-id"] == scene.run.id


def test_the_comment_compares_with_the_base_branch(scene: Scene) -> None:
    scene.job(scene.push())
    pull = scene.pull()
    scene.job(scene.comment(pull, "/train accuracy=0.8"))
    (answer,) = scene.answers(pull)
    assert "0.9" in answer
    assert "0.8" in answer
    assert "mermaid" in answer
