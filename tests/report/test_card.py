import ast
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.models import DataUsed, EnvironmentUsed, ModelFile, Resources, Version
from runner.models.provenance import Origin
from runner.report.card import BODY_BYTES, Place, card
from runner.report.loading import loading
from tests.models.test_provenance import ORIGIN, VERSION
from tests.report.hostile import TEXTS
from tests.report.rendering import by_another, by_github

GOLDEN = Path(__file__).parent / "golden"

PLACE = Place(
    server_url="https://github.com",
    repository="ann/digits",
    assets={"saved_model.pb": "saved_model.pb", "variables/index": "variables.index"},
    store="s3://bucket/models",
    signature="sigstore",
)
BEFORE = dataclasses.replace(
    VERSION,
    version="1.1.0",
    lineage=dataclasses.replace(
        VERSION.lineage, metrics={"accuracy": 0.95}, inputs={**VERSION.lineage.inputs, "rate": 0.2}
    ),
)


def lineage(**changes: object) -> Version:
    return dataclasses.replace(VERSION, lineage=dataclasses.replace(VERSION.lineage, **changes))  # type: ignore[arg-type]


def text(version: Version = VERSION, place: Place = PLACE, before: Version | None = BEFORE) -> str:
    return card(version, ORIGIN, place, before=before)


def test_a_card_tells_all_of_a_version() -> None:
    large = ModelFile(path="weights.bin", size_bytes=3 << 30, digest="sha256:" + "ef" * 32)
    empty = ModelFile(path="empty", size_bytes=0, digest="sha256:" + "00" * 32)
    version = dataclasses.replace(VERSION, files=(*VERSION.files, large, empty))

    assert text(version) == (GOLDEN / "card.md").read_text()


def test_a_card_without_github_names_the_store() -> None:
    place = dataclasses.replace(PLACE, repository=None, assets={}, signature="key")
    told = card(lineage(commit=None, branch=None), Origin(), place, before=None)

    assert "pushtrain models download digits@1.2.0 --store s3://bucket/models" in told
    assert "from no commit" in told
    assert "pushtrain models verify digits@1.2.0 --store s3://bucket/models --key pushtrain.pub" in told
    assert "github" not in told
    assert by_github(told).links == []


def test_a_first_version_is_compared_with_nothing() -> None:
    told = text(before=None)

    assert "| metric | 1.2.0 |" in told
    assert "1.1.0" not in told


def test_uncommitted_changes_are_a_warning() -> None:
    assert "> [!WARNING]\n> It was trained with changes that are in no commit" in text(lineage(dirty=True))


def test_what_nobody_signed_is_told_so() -> None:
    told = text(place=dataclasses.replace(PLACE, signature="none"))

    assert "Nobody signed it." in told
    assert "--unsigned-ok" in told


def test_thousands_of_files_fit_and_the_rest_is_counted() -> None:
    files = tuple(
        ModelFile(path=f"{'x' * 150}-{number}", size_bytes=1, digest="sha256:" + "ab" * 32)
        for number in range(3000)
    )
    told = text(dataclasses.replace(VERSION, files=files))

    assert len(told.encode()) <= BODY_BYTES
    assert "… and 27" in told
    assert "## How to verify it" in told
    assert by_github(told).elements.count("table") == 5


HOSTILE = st.builds(
    lambda one, two, three, four: dataclasses.replace(
        VERSION,
        framework=one or None,
        framework_version=two or None,
        resources=Resources(cpu=None, memory_bytes=None),
        files=(ModelFile(path=three or "x", size_bytes=1, digest="sha256:" + "ab" * 32),),
        lineage=dataclasses.replace(
            VERSION.lineage,
            branch=two or None,
            run_id=four,
            inputs={three: one, "x": two},
            metrics={one: 1.0},
            data=(DataUsed(name=two, digest=one),),
            environment=EnvironmentUsed(kind="image", key=one, digest=two or None),
        ),
    ),
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
)


@given(version=HOSTILE, by=TEXTS)
def test_nothing_that_a_run_wrote_is_obeyed(version: Version, by: str) -> None:
    place = dataclasses.replace(PLACE, assets={version.files[0].path: "asset"})
    told = card(version, dataclasses.replace(ORIGIN, by=by), place, before=BEFORE)

    for seen in (by_github(told), by_another(told)):
        assert seen.comments == []
        assert [found for found in seen.obeyed if found != "[!"] == []
        assert {link.split("/")[2] for link in seen.links} <= {"github.com"}
        assert seen.elements.count("table") == 5
        assert {each for each in seen.elements if each in ("script", "img", "details", "input")} == set()


@pytest.mark.parametrize(
    ("paths", "framework", "lines"),
    [
        (["variables/v.index", "saved_model.pb"], "tensorflow", "tf.saved_model.load('digits')"),
        (["1/saved_model.pb"], None, "tf.saved_model.load('digits/1')"),
        (["deep/b.keras", "a.keras"], "keras", "keras.models.load_model('digits/a.keras')"),
        (["model.h5"], "tensorflow", "keras.models.load_model('digits/model.h5')"),
        (["model.pt"], "pytorch", "torch.load('digits/model.pt', map_location=\"cpu\", weights_only=True)"),
        (["model.joblib"], "sklearn", "joblib.load('digits/model.joblib')"),
        (["model.pkl"], "scikit-learn", "joblib.load('digits/model.pkl')"),
        (["model.pkl"], "other", "pickle.load(open('digits/model.pkl', \"rb\"))"),
        (["model.json"], "xgboost", "xgboost.Booster(model_file='digits/model.json')"),
        (["model.onnx", "model.pt"], "pytorch", "onnxruntime.InferenceSession('digits/model.onnx')"),
        (["it's.npz"], None, 'numpy.load("digits/it\'s.npz")'),
    ],
)
def test_the_lines_that_load_a_model_follow_from_its_files(
    paths: list[str], framework: str | None, lines: str
) -> None:
    found = loading(paths, framework, folder="digits")

    assert found is not None
    assert found.lines[-1].endswith(lines)
    ast.parse("\n".join(found.lines))


@pytest.mark.parametrize(
    ("paths", "framework"), [(["weights.bin"], "tensorflow"), (["model.json"], "pytorch"), ([], None)]
)
def test_where_names_tell_nothing_no_lines_are_made_up(paths: list[str], framework: str | None) -> None:
    assert loading(paths, framework, folder="digits") is None


@given(path=TEXTS)
def test_a_path_is_one_word_of_python(path: str) -> None:
    found = loading([f"{path}/saved_model.pb"], None, folder="digits")

    assert found is not None
    assert len(found.lines[-1].splitlines()) == 1
    call = ast.parse(found.lines[-1]).body[0]
    assert isinstance(call, ast.Assign)
    assert isinstance(call.value, ast.Call)
    assert [type(argument) for argument in call.value.args] == [ast.Constant]
