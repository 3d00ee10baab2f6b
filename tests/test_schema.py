import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner import document, schema

ROOT = Path(__file__).parent.parent
SPECS = Path(__file__).parent / "specs"
ACCEPTED = sorted([*(SPECS / "valid").glob("*.yml"), *ROOT.glob("examples/*/train.yml")])
# What a schema can see: keys, types and choices, but neither placeholders nor one key against another.
STRUCTURAL = (
    "choices",
    "clock",
    "everything",
    "list",
    "metrics",
    "no-command",
    "paths",
    "quantities",
    "triggers",
    "two-commands",
    "types",
    "unknown-keys",
    "variables",
)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    kept: dict[str, Any] = json.loads(schema.SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(kept)
    return jsonschema.Draft202012Validator(kept)


def test_the_kept_schema_is_up_to_date() -> None:
    # To renew it: python -m runner.schema
    assert schema.SCHEMA_FILE.read_text(encoding="utf-8") == schema.text()


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_schema_accepts_what_the_reader_accepts(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate(document.read(path).data)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_the_schema_rejects_faults_of_structure(
    name: str, validator: jsonschema.Draft202012Validator
) -> None:
    assert not validator.is_valid(document.read(SPECS / "error" / f"{name}.yml").data)


def test_every_key_has_words_for_an_editor() -> None:
    generated = schema.generate()
    for name, definition in generated["$defs"].items():
        for form in definition.get("anyOf", [definition]):
            for key, described in form.get("properties", {}).items():
                assert {"description", "$ref"} & described.keys() or key == "type", f"{name}.{key}"
    assert all({"description", "anyOf"} & described.keys() for described in generated["properties"].values())
