"""The published schemas: right as schemas, true to what is written, and up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from mafalda.contract.messages import results
from mafalda.contract.messages.envelope import Message, encode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.contract.schema.json_schema import (
    DIALECT,
    ENVELOPE_FILE,
    GRANTS_FILE,
    envelope_schema,
    payload_schema,
    schema_file,
    schemas,
)
from mafalda.testing.builders import EXAMPLES, message
from mafalda.testing.media import ICE

ROOT = Path(__file__).parents[3]


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_a_schema(name: str) -> None:
    schema = schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert f"{schema['$id']}.json" == f"urn:mafalda:schema:{name}"
    assert schema["title"]
    assert schema["description"][-1] in ".?", "a sentence for people"


@pytest.mark.parametrize("payload_type", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_schema_says_what_is_written(payload_type: type[Payload]) -> None:
    fields = orjson.loads(encode(message(EXAMPLES[payload_type])))
    assert problems(envelope_schema(), fields) == []
    assert problems(payload_schema(payload_type), fields["data"]) == []
    assert fields["dataschema"] == payload_schema(payload_type)["$id"]
    assert payload_type.model_validate(fields["data"]) == EXAMPLES[payload_type]


def test_parameters_with_secrets_fit_too() -> None:
    full = EXAMPLES[results.TransportResult].model_copy(update={"ice_parameters": ICE})
    assert problems(payload_schema(results.TransportResult), full.to_json_dict()) == []


@pytest.mark.parametrize("payload_type", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_names_are_camel_case(payload_type: type[Payload]) -> None:
    schema = payload_schema(payload_type)
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, field in part.get("properties", {}).items():
            assert name.isalnum(), name
            assert name[0].islower() or name in ("OS", "MIS"), name
            assert "title" not in field
            assert {"type": "null"} not in field.get("anyOf", ()), f"{name}: what is absent is not null"
            assert "None" not in field.get("description", ""), f"{name}: None is Python's word"


@pytest.mark.parametrize("payload_type", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_schema_refuses_what_decode_refuses(payload_type: type[Payload]) -> None:
    schema = payload_schema(payload_type)
    for name in schema.get("required", ()):
        lacking = {key: value for key, value in EXAMPLES[payload_type].to_json_dict().items() if key != name}
        assert any(name in problem for problem in problems(schema, lacking))
        with pytest.raises(ValueError, match=name):
            payload_type.model_validate(lacking)
    for name, field in schema["properties"].items():
        if field.get("pattern", "").startswith("^[A-Za-z0-9_-]"):
            spoilt = EXAMPLES[payload_type].to_json_dict() | {name: "a.b"}
            assert problems(schema, spoilt)
            with pytest.raises(ValueError, match=name):
                payload_type.model_validate(spoilt)


def test_the_envelope_s_schema_can_refuse() -> None:
    good = orjson.loads(encode(message(EXAMPLES[PAYLOADS["mafalda.intent.join.v1"]])))
    assert problems(envelope_schema(), good) == []
    for name in ("specversion", "id", "source", "type", "time", "data"):
        assert problems(envelope_schema(), {key: value for key, value in good.items() if key != name}), name
    spoilt: list[dict[str, Any]] = [
        {"id": "a.b"},
        {"specversion": "2.0"},
        {"type": "join"},
        {"data": []},
        {"traceparent": "x"},
    ]
    for changed in spoilt:
        assert problems(envelope_schema(), good | changed), changed
    assert set(envelope_schema()["properties"]) == set(Message.model_fields)


def test_file_names() -> None:
    assert set(schemas()) == {ENVELOPE_FILE, GRANTS_FILE, *map(schema_file, PAYLOADS.values())}
    assert len(schemas()) == len(PAYLOADS) + 2
    assert "intent.join.v1.json" in schemas()


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "generate_schemas.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_what_is_committed_is_what_is_generated() -> None:
    done = generate("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_drift_is_found(tmp_path: Path) -> None:
    assert generate("--root", str(tmp_path)).returncode == 0
    assert generate("--root", str(tmp_path), "--check").returncode == 0
    join = tmp_path / "schemas" / "intent.join.v1.json"
    join.write_text(json.dumps(json.loads(join.read_text()) | {"title": "Enter"}))
    (tmp_path / "schemas" / "intent.wave.v1.json").write_text("{}")
    (tmp_path / "docs" / "messages.md").unlink()
    done = generate("--root", str(tmp_path), "--check")
    assert done.returncode == 1
    named = [line.split()[1] for line in done.stdout.splitlines()]
    assert named == ["docs/messages.md", "schemas/intent.join.v1.json", "schemas/intent.wave.v1.json"]
    assert generate("--root", str(tmp_path), "--release", "0.1.0").returncode == 0
    assert generate("--root", str(tmp_path), "--check").returncode == 0
    kept = {path.name for path in (tmp_path / "schemas" / "released" / "0.1.0").iterdir()}
    assert kept == set(schemas())
