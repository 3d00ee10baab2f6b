"""The models of train.yml -> a JSON Schema, with which an editor completes, explains and checks the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.spec import Spec

SCHEMA_FILE = Path(__file__).with_name("train.schema.json")

_SCALAR = {"type": ["string", "number", "boolean"], "description": "The default; its type follows."}
_TRIGGER_NAMES = {"enum": ["push", "comment", "dispatch"]}

# What may be written instead of the whole mapping.
_SHORTHANDS: dict[str, list[dict[str, Any]]] = {
    "Input": [_SCALAR],
    "DatasetSpec": [{"type": "string", "minLength": 1, "description": "The source alone."}],
    "Concurrency": [{"type": "string", "minLength": 1, "description": "The group alone."}],
    "Triggers": [_TRIGGER_NAMES, {"type": "array", "items": _TRIGGER_NAMES}],
}


def generate() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a train.yml as people write it. Equal models give an equal schema."""
    schema = Spec.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    # The type of an input follows from its default.
    definitions["Input"].pop("required")
    definitions["Triggers"]["properties"]["dispatch"]["type"] = ["boolean", "null"]
    for name, forms in _SHORTHANDS.items():
        definitions[name] = {"anyOf": [definitions[name], *forms]}
    _loosen(schema["properties"])
    _simplify(schema)
    schema["patternProperties"] = {"^x-": {"description": "A place for anchors; not read."}}
    schema["oneOf"] = [_only("entrypoint", "run"), _only("run", "entrypoint")]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pushtrain's train.yml"}
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def text() -> str:
    """The schema as it is kept in `train.schema.json`."""
    return json.dumps(generate(), indent=2, ensure_ascii=False) + "\n"


def _loosen(properties: dict[str, Any]) -> None:
    """A section may be left empty, and a distribution be named alone."""
    distribution = properties["distribution"]
    members = distribution.pop("oneOf")
    distribution.pop("discriminator")
    distribution["anyOf"] = [*members, {"enum": ["none", "mpi", "tensorflow", "torch", "jax", None]}]
    for section in properties.values():
        if "$ref" in section:
            section["anyOf"] = [{"$ref": section.pop("$ref")}, {"type": "null"}]
        elif section.get("type") == "object":
            section["type"] = ["object", "null"]


def _only(given: str, other: str) -> dict[str, Any]:
    return {
        "required": [given],
        "not": {"required": [other], "properties": {other: {"not": {"type": "null"}}}},
    }


def _simplify(node: object) -> None:
    """Takes out the titles that pydantic makes of names: an editor would show them above the descriptions."""
    if isinstance(node, list):
        for item in node:
            _simplify(item)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("title"), str):
        del node["title"]
    for value in node.values():
        _simplify(value)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(text(), encoding="utf-8")
