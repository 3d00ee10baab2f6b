from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner import document
from runner.document import Document, closest
from runner.errors import SpecError


def parse(text: str) -> Document:
    return document.parse(text, path="train.yml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("True", True),
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("0o17", 15),
        ("0x1F", 31),
        ("012", 12),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-21", "2026-11-21"),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("+.INF", float("inf")),
        ('"null"', "null"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    data = parse(f"key: {text}").data
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


def test_the_key_on_stays_text() -> None:
    assert parse("on: push").data == {"on": "push"}


def test_every_key_and_item_knows_its_line_and_column() -> None:
    read = parse("a: 1\nb:\n  c: [x, y]\n  d:\n    - e: z\n")
    assert read.position("a") == (1, 4)
    assert read.position("b.c.1") == (3, 10)
    assert read.key_position("b.d") == (4, 3)
    assert read.position("b.d.0.e") == (5, 10)


def test_a_key_that_is_not_there_is_placed_at_the_nearest_above_it() -> None:
    read = parse("a:\n  b: 1\n")
    assert read.position("a.b.c.d") == (2, 6)
    assert read.position("z") == (1, 1)


def test_a_fragment_is_found_in_a_block_of_several_lines() -> None:
    read = parse("run: |\n  one $x\n  two $x $x\n")
    assert [read.fragment_position("run", "$x", n) for n in range(3)] == [(2, 7), (3, 7), (3, 10)]


def test_all_keys_given_twice_are_reported_with_both_lines() -> None:
    read = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert [str(fault) for fault in read.faults] == [
        "train.yml:2:11: b.c: is given twice, first in line 2; expected each key once",
        "train.yml:3:1: a: is given twice, first in line 1; expected each key once",
    ]
    assert read.data == {"a": 1, "b": {"c": 1}}


def test_an_alias_stands_for_what_was_anchored() -> None:
    assert parse("a: &x [1, {b: 2}]\nc: *x\n").data == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


def test_merged_keys_give_way_to_written_ones() -> None:
    read = parse("a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc: {y: 9, <<: [*a, *b]}\n")
    assert isinstance(read.data, dict)
    assert read.data["c"] == {"x": 1, "y": 9, "z": 3}


def test_aliases_that_multiply_are_refused() -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    rows += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    with pytest.raises(SpecError, match="more than 20000 values"):
        parse("\n".join(rows))


def test_merges_that_multiply_are_refused() -> None:
    wide = ", ".join(f"k{n}: 1" for n in range(200))
    rows = [f"a: &a {{{wide}}}", *(f"m{n}: {{<<: *a}}" for n in range(200))]
    with pytest.raises(SpecError, match="more than 20000 values"):
        parse("\n".join(rows))


def test_an_alias_of_what_it_stands_in_is_unknown() -> None:
    assert "stands for nothing" in str(parse("a: &a [*a]").faults[0])


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_and_does_not_crash(opening: str) -> None:
    with pytest.raises(SpecError):
        parse(opening * 30_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1", "2:1: a tab; expected spaces"),
        ("a: 1\n b: 2", "2:3: mapping values are not allowed in this context"),
        ("a: [1, 2\nb: 3", "expected a comma or a closing ]"),
        ("a: 'x", "1:4: found unexpected end of stream"),
        ("a: @x", "1:4: text cannot start with '@'; expected quotes around it"),
        ("a: 1\n---\nb: 2", "2:1: a second document; expected one document"),
        ("a: \x01", "1:4: a character that YAML does not allow"),
        ("a: \ud800", "is not Unicode text"),
        ("#" * (256 * 1024 + 1), "is larger than 256 KiB"),
    ],
)
def test_what_is_not_yaml_is_refused_where_it_stands(text: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(text)
    assert message in str(refused.value)


def test_numbers_beyond_64_bits_are_a_fault() -> None:
    assert "too large" in str(parse(f"a: {'9' * 5000}").faults[0])
    assert "too large" in str(parse(f"a: {2**63}").faults[0])


def test_tags_are_a_fault_and_construct_nothing() -> None:
    assert "has no meaning here" in str(parse("a: !!python/object:os.system x").faults[0])


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_bytes(b"name: x\nrun: \xff\n")
    with pytest.raises(SpecError, match=r":2:6: is not UTF-8 text"):
        document.read(tmp_path / "train.yml")


def test_a_file_beyond_256_kib_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(SpecError, match="larger than 256 KiB"):
        document.read(tmp_path / "train.yml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        document.read(tmp_path / "train.yml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert document.read(tmp_path / "train.yml").data == {"name": "x"}


@given(st.text())
def test_no_text_makes_the_reader_fail_otherwise(text: str) -> None:
    with suppress(SpecError):
        parse(text)


_PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_PLAIN)
def test_json_is_read_as_json(data: object) -> None:
    import json

    text = json.dumps({"data": data}, ensure_ascii=True, indent=1)
    if "\\ud" in text or "Infinity" in text or "<<" in text:  # lone surrogates and infinity are not JSON
        return
    assert parse(text).data == {"data": data}


def _accepted_by_pyyaml(text: str) -> bool:
    try:
        list(yaml.compose_all(text, Loader=yaml.CBaseLoader))
    except yaml.YAMLError:
        return False
    return True


def _accepted_here(text: str) -> bool | None:
    """None where the rules are on purpose stricter, or looser for the sake of finding all faults."""
    try:
        return None if parse(text).faults else True
    except SpecError as error:
        return None if "second document" in str(error) or "nested" in str(error) else False


@given(st.text(alphabet="ab: -[]{}&*!|>'\"\n#,?<%@`~.0123456789\t", max_size=60))
def test_what_pyyaml_accepts_is_accepted_and_what_it_refuses_refused(text: str) -> None:
    assert _accepted_here(text) in {_accepted_by_pyyaml(text), None}


@pytest.mark.parametrize(
    ("word", "found"),
    [("resource", "resources"), ("learning_rate", "learning-rate"), ("zebra", ""), ("GPU", "gpu")],
)
def test_the_closest_name_is_suggested(word: str, found: str) -> None:
    assert closest(word, ["resources", "learning-rate", "gpu"]) == found
