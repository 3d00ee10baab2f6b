from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import spec
from runner.errors import SpecError
from runner.quantities import Gpu, MalformedError
from runner.spec import (
    FailIf,
    Input,
    MpiDistribution,
    Nodes,
    SingleDistribution,
    Spec,
    TensorflowDistribution,
    TorchDistribution,
)

SPECS = Path(__file__).parent / "specs"
VALID = sorted((SPECS / "valid").glob("*.yml"))
ERROR = sorted((SPECS / "error").glob("*.yml"))


def names(path: Path) -> str:
    return path.stem


def parse(text: str) -> Spec:
    return spec.parse("name: x\nentrypoint: train.py\n" + text)


@pytest.mark.parametrize("path", VALID, ids=names)
def test_a_valid_file_is_read(path: Path) -> None:
    assert spec.load(path).name


@pytest.mark.parametrize("path", VALID, ids=names)
def test_a_dumped_spec_reads_back_as_the_same_spec(path: Path) -> None:
    read = spec.load(path)
    assert Spec.model_validate(read.model_dump(mode="json")) == read
    assert Spec.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize("path", ERROR, ids=names)
def test_every_fault_of_a_file_is_reported_with_its_line(path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        spec.parse(path.read_text(encoding="utf-8"), path=path.name)
    assert str(refused.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_field_of_a_full_file_has_its_typed_value() -> None:
    read = spec.load(SPECS / "valid" / "full.yml")
    assert read.on.push is not None
    assert read.on.push.paths == ("src/**",)
    assert read.on.comment is not None
    assert read.on.comment.roles == ("write",)
    assert read.inputs["learning-rate"].default == 0.01
    assert read.inputs["batch-size"].type == "integer"
    assert read.datasets["mnist"].source == "s3://bucket/mnist"
    assert read.environment.pip == "requirements.txt"
    assert read.resources.nodes == Nodes(min=2, max=2)
    assert read.resources.gpu == Gpu(model="H100", count=8)
    assert read.resources.memory_bytes == 32 * 2**30
    assert read.resources.shm_bytes == 16 * 2**30
    assert read.distribution == MpiDistribution(type="mpi", processes_per_node=8)
    assert read.metrics.fail_if == FailIf(operator="<", relative=True, offset=-0.01)
    assert read.retry.exit_codes == (33,)
    assert (read.timeout.queue_s, read.timeout.run_s, read.timeout.silence_s) == (7200, 86400, 1800)
    assert read.concurrency is not None
    assert read.concurrency.cancel_in_progress
    assert read.release is not None
    assert read.release.resources.memory_bytes == 512 * 2**20


def test_what_a_file_leaves_out_has_its_default() -> None:
    read = spec.load(SPECS / "valid" / "minimal.yml")
    assert read.source == "."
    assert read.distribution == SingleDistribution()
    assert (read.outputs.path, read.outputs.logs, read.outputs.checkpoints) == ("outputs", "logs", None)
    assert (read.timeout.run_s, read.timeout.grace_s) == (None, 30)
    assert read.policy.reuse
    assert read.on.dispatch
    assert read.resources.nodes == Nodes(min=1, max=1)


def test_an_empty_section_has_its_defaults() -> None:
    read = spec.load(SPECS / "valid" / "empty-sections.yml")
    assert read.environment.pip is None
    assert read.on.push is not None
    assert read.on.push.branches == ()
    assert read.entrypoint == "train.py"


def test_what_starts_a_run_is_read_in_full() -> None:
    on = spec.load(SPECS / "valid" / "triggers.yml").on
    assert on.push is not None
    assert on.push.branches == ("main", "release/**", "!release/old-*")
    assert on.push.tags == ("v[12].[0-9]+.[0-9]+",)
    assert on.comment is not None
    assert (on.comment.command, on.comment.roles) == ("/fit", ("maintain",))
    assert on.schedule == ("0 3 * * *", "*/30 9-17 1,15 JAN-JUN MON-FRI/2")


def test_nothing_but_a_button_starts_a_run_unless_the_file_says_so() -> None:
    on = parse("").on
    assert (on.push, on.comment, on.schedule, on.dispatch) == (None, None, (), True)


def test_a_distribution_without_a_type_sets_nothing_up_between_its_ranks() -> None:
    read = spec.load(SPECS / "valid" / "image.yml")
    assert read.distribution == SingleDistribution(type="none", processes_per_node=2)


def test_shorthands_stand_for_the_whole() -> None:
    read = spec.load(SPECS / "valid" / "shorthands.yml")
    kinds = {name: declared.type for name, declared in read.inputs.items()}
    assert kinds == {
        "lr": "number",
        "epochs": "integer",
        "optimizer": "choice",
        "verbose": "boolean",
        "note": "string",
    }
    assert read.datasets["digits"].source == "data/digits.csv"
    assert read.distribution.type == "torch"
    assert read.concurrency is not None
    assert read.concurrency.group == "${{ branch }}"


def test_yaml_1_2_numbers_and_merged_keys_reach_the_inputs() -> None:
    read = spec.load(SPECS / "valid" / "anchors.yml")
    assert read.inputs["lr"].default == 0.001
    assert (read.inputs["momentum"].min, read.inputs["momentum"].max) == (0, 1)


def test_a_tensorflow_cluster_is_read() -> None:
    read = spec.load(SPECS / "valid" / "elastic.yml")
    assert isinstance(read.distribution, TensorflowDistribution)
    assert (read.distribution.workers, read.distribution.parameter_servers) == (2, 1)
    assert read.resources.nodes == Nodes(min=2, max=4)


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("", 1),
        ("resources: {gpu: 4}\ndistribution: mpi", 4),
        ("resources: {gpu: 4}\ndistribution: {type: torch, processes_per_node: 2}", 2),
        ("resources: {gpu: 4}", 1),
        ("resources: {gpu: 4}\ndistribution: jax", 1),
        ("resources: {gpu: 4}\ndistribution: tensorflow", 1),
        ("resources: {gpu: 4, nodes: 2}\ndistribution: {type: tensorflow, workers: 6}", 3),
        ("resources: {nodes: 1..2}\ndistribution: {type: tensorflow, workers: 3, chief: true}", 2),
    ],
)
def test_ranks_on_each_node_follow_the_gpus_where_each_rank_takes_one(text: str, ranks: int) -> None:
    assert parse(text).processes_per_node == ranks


def test_a_cluster_of_one_worker_has_no_use_for_a_second_node() -> None:
    with pytest.raises(SpecError, match="1 task of distribution cannot be dealt evenly to 2 nodes"):
        parse("resources: {nodes: 2}\ndistribution: tensorflow")


def test_the_tasks_of_a_cluster_are_in_the_order_of_their_ranks() -> None:
    read = spec.load(SPECS / "valid" / "tensorflow.yml")
    assert isinstance(read.distribution, TensorflowDistribution)
    assert read.distribution.tasks == ("chief 0", "worker 0", "worker 1", "ps 0", "evaluator 0")
    assert read.processes_per_node == 1


def test_what_follows_when_the_weights_of_ranks_differ_is_read() -> None:
    horovod, torchrun = (spec.load(SPECS / "valid" / f"{name}.yml") for name in ("horovod", "torchrun"))
    assert horovod.distribution == MpiDistribution(type="mpi", timeline=True, divergence="warn")
    assert MpiDistribution(type="mpi").divergence == "fail"
    assert torchrun.distribution == TorchDistribution(type="torch", divergence="ignore")
    assert TorchDistribution(type="torch").divergence == "warn"
    assert (horovod.outputs.per_rank, torchrun.outputs.per_rank) == (True, False)


def test_a_key_is_found_in_its_file_after_the_file_was_read() -> None:
    read = parse("environment:\n  pip:\n    - numpy\n    - scipy\n")
    assert read.position("environment.pip.1") == (6, 7)
    assert Spec.model_validate({"name": "x", "run": "true"}).position("run") == (1, 1)


def test_files_that_say_the_same_are_equal_wherever_their_lines_are() -> None:
    assert parse("env: {A: x}\n") == parse("\n\nenv:\n  A: x\n")
    assert parse("env: {A: x}\n") != parse("env: {A: y}\n")


def test_a_spec_cannot_be_changed() -> None:
    read = parse("")
    with pytest.raises(ValueError, match="frozen"):
        read.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("< 0.9", FailIf(operator="<", relative=False, offset=0.9)),
        (">= -1e-3", FailIf(operator=">=", relative=False, offset=-0.001)),
        ("< base", FailIf(operator="<", relative=True, offset=0)),
        (">base+2", FailIf(operator=">", relative=True, offset=2)),
    ],
)
def test_a_condition_is_read_as_operator_and_offset(text: str, condition: FailIf) -> None:
    read = parse(f'metrics: {{primary: loss, fail_if: "{text}"}}')
    assert read.metrics.fail_if == condition


@pytest.mark.parametrize(
    ("declaration", "text", "value"),
    [
        ({"type": "number", "default": 1}, "1e-3", 0.001),
        ({"type": "number", "default": 1}, "2", 2.0),
        ({"type": "integer", "default": 1}, " 12 ", 12),
        ({"type": "boolean", "default": False}, "True", True),
        ({"type": "string", "default": ""}, " a b ", " a b "),
        ({"options": ["adam", 2, 0.5, True], "default": 2}, "0.5", 0.5),
        ({"options": ["adam", 2, 0.5, True], "default": 2}, "true", True),
    ],
)
def test_a_parameter_is_read_by_its_declaration(
    declaration: dict[str, object], text: str, value: object
) -> None:
    read = Input.model_validate(declaration).parse(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("declaration", "text", "message"),
    [
        ({"type": "number", "default": 1}, "nan", "'nan' cannot be used; expected a number"),
        ({"type": "number", "default": 1}, "inf", "expected a number"),
        ({"type": "number", "default": 1}, "1e999", "inf is out of bounds; expected a number"),
        ({"type": "number", "default": 1}, "1_0", "expected a number"),
        (
            {"type": "number", "default": 1, "min": 0, "max": 2},
            "3",
            "expected a number of at least 0 and at most 2",
        ),
        ({"type": "integer", "default": 1}, "1.0", "expected a whole number"),
        (
            {"type": "integer", "default": 1, "max": 3},
            "4",
            "4 is out of bounds; expected a whole number of at most 3",
        ),
        ({"type": "integer", "default": 1}, "9" * 5000, "expected a whole number"),
        ({"type": "boolean", "default": True}, "yes", "expected true or false"),
        ({"type": "string", "default": ""}, "a\0b", "NUL"),
        ({"options": ["adam", "sgd"], "default": "sgd"}, "sdg", "expected one of adam, sgd"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(
    declaration: dict[str, object], text: str, message: str
) -> None:
    with pytest.raises(MalformedError) as refused:
        Input.model_validate(declaration).parse(text)
    assert message in str(refused.value)


def test_a_whole_default_of_a_number_equals_its_decimal_form() -> None:
    one = Input.model_validate({"type": "number", "default": 1})
    assert one == Input.model_validate({"type": "number", "default": 1.0})
    assert isinstance(one.default, float)


def test_an_input_without_a_default_is_required() -> None:
    assert Input.model_validate({"type": "number"}).required
    assert not Input.model_validate(0.1).required


_KEYS = st.sampled_from(
    [*Spec.model_fields, "type", "default", "gpu", "pip", "image", "primary", "x-a", "<<", "path"]
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=5),
    st.sampled_from(["mpi", "2h", "1GiB", "a", "train.py", "${{ inputs.a }}", "${{", "../x"]),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=15,
)


@given(st.dictionaries(_KEYS, _TREES, max_size=6))
def test_no_data_makes_the_reader_fail_otherwise(data: dict[str, object]) -> None:
    import json

    with suppress(SpecError):
        spec.parse(json.dumps(data))


@given(st.text())
def test_no_text_makes_the_reader_fail_otherwise(text: str) -> None:
    with suppress(SpecError):
        spec.parse(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_from_how_it_is_written(value: float) -> None:
    assert Input.model_validate({"type": "number", "default": 0.5}).parse(repr(value)) == value
