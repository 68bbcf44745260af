"""What the JSON Schemas refuse the contract refuses, at the same place; and nothing else, but what is listed here."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from mafalda.contract.messages import intents
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.registry import PAYLOADS
from mafalda.contract.schema.json_schema import envelope_schema, payload_schema
from mafalda.errors import BadInput, MalformedMessage, UnknownType, UnknownVersion
from mafalda.media.rtp import DtlsFingerprint
from tests.unit.contract.mutations import ABSENT, PLACES, VALUES, Mutation

#: What the contract refuses and JSON Schema has no words for.
BEYOND_JSON_SCHEMA = (
    "does not appear to be an IPv4 or IPv6 address",
    "the key is not base64",
    "a key for AEAD_AES_256_GCM has 44 bytes",
    "an integer must fit into 32 bits",
    "more than the worker's range",
)

formats = FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def _matches(_: Validator, pattern: str, value: Any, __: Any) -> Any:
    """As ECMA 262 has it, which JSON Schema means: ``$`` is the very end, also before a line feed."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Strict: Any = extend(Draft202012Validator, {"pattern": _matches})  # type: ignore[no-untyped-call]


@cache
def _validators(payload: type[Payload]) -> tuple[Validator, Validator]:
    return _Strict(envelope_schema(), format_checker=formats), _Strict(payload_schema(payload), format_checker=formats)


def by_json_schema(payload: type[Payload], fields: dict[str, Any]) -> set[str]:
    """Where a message does not fit its schemas; empty if it does."""
    envelope, data = _validators(payload)
    found = set()
    for error in envelope.iter_errors(fields):
        found |= _named(error, ())
    if "data" in fields:
        for error in data.iter_errors(fields["data"]):
            found |= _named(error, ())
    return found


def _named(error: ValidationError, prefix: tuple[Any, ...]) -> set[str]:
    path = (*prefix, *error.absolute_path)
    if error.validator == "required":
        instance = cast("dict[str, Any]", error.instance)
        missing = [name for name in cast("list[str]", error.validator_value) if name not in instance]
        return {_text((*path, name)) for name in missing}
    return {_text(path)}


def _text(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or "data"


def by_contract(fields: dict[str, Any]) -> tuple[set[str], str]:
    """Where the contract says that the message is wrong, and why; nothing if it is right."""
    try:
        decode(json.dumps(fields).encode())
    except MalformedMessage as error:
        if error.reason == "no CloudEvents type":
            return {"type"}, error.reason
        return {problem.split(": ")[0] for problem in error.reason.split("; ")}, error.reason
    except (UnknownType, UnknownVersion) as error:
        return {"type"}, error.reason
    return set(), ""


def same_place(ours: set[str], theirs: set[str]) -> bool:
    """Whether both name a place in common. In a choice of types pydantic adds the type's name to the place."""
    return any(our == their or our.startswith(f"{their}.") for our in ours for their in theirs)


def judge(mutation: Mutation) -> None:
    fields = mutation.fields()
    theirs = by_json_schema(mutation.payload, fields)
    ours, why = by_contract(fields)
    if mutation.path == ("type",) and mutation.value != mutation.payload.type_name():
        assert ours == {"type"}
    elif theirs:
        assert ours, f"{mutation}: JSON Schema refuses {theirs}, the contract does not"
        assert same_place(ours, theirs), f"{mutation}: JSON Schema refuses {theirs}, the contract {why}"
    else:
        beyond = any(reason in why for reason in BEYOND_JSON_SCHEMA)
        assert not ours or beyond, f"{mutation}: JSON Schema accepts, the contract refuses {why}"


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    payload = draw(st.sampled_from(list(PLACES)))
    return Mutation(payload, draw(st.sampled_from(PLACES[payload])), draw(st.sampled_from(VALUES)))


@settings(max_examples=2000, derandomize=True, deadline=None, database=None)
@given(mutations())
def test_a_message_is_judged_as_its_json_schema_judges_it(mutation: Mutation) -> None:
    judge(mutation)


def test_the_two_judges_can_differ() -> None:
    """The comparison itself: a schema that asks for more than the contract does is found."""
    mutation = Mutation(intents.Leave, ("source",), "x" * 5000)
    assert by_json_schema(intents.Leave, mutation.fields()) == {"source"}
    assert by_contract(mutation.fields())[0] == {"source"}
    assert not same_place({"source"}, {"time"})
    assert not by_json_schema(intents.Leave, Mutation(intents.Leave, ("subject",), ABSENT).fields())


def changed(payload: type[Payload], *path: int | str, value: Any) -> Mutation:
    return Mutation(payload, ("data", *path), value)


_CODEC = ("rtpParameters", "codecs", 0)
_FINGERPRINT = ("dtlsParameters", "fingerprints", 0)


@pytest.mark.parametrize(
    ("mutation", "place"),
    [
        (changed(intents.CreateTransport, "enableTcp", value="yes"), "enableTcp"),
        (changed(intents.CreateTransport, "enableTcp", value=1), "enableTcp"),
        (
            changed(intents.CreateTransport, "initialAvailableOutgoingBitrate", value="600000"),
            "initialAvailableOutgoingBitrate",
        ),
        (
            changed(intents.CreateTransport, "initialAvailableOutgoingBitrate", value=True),
            "initialAvailableOutgoingBitrate",
        ),
        (changed(intents.SetPriority, "priority", value=1.5), "priority"),
        (changed(intents.Produce, "mediaKind", value="audio"), "rtpParameters.codecs.0.mimeType"),
        (changed(intents.Produce, *_CODEC, "mimeType", value="audio/opus"), "rtpParameters.codecs.0.mimeType"),
        (changed(intents.Produce, "keyFrameRequestDelayMs", value=None), "keyFrameRequestDelayMs"),
        (changed(intents.Produce, "rtpParameters", "mid", value=None), "rtpParameters.mid"),
        (
            changed(intents.ConnectTransport, *_FINGERPRINT, "value", value=":".join(["5A"] * 20)),
            "dtlsParameters.fingerprints.0.value",
        ),
        (
            changed(intents.ConnectTransport, *_FINGERPRINT, "algorithm", value="sha-1"),
            "dtlsParameters.fingerprints.0.value",
        ),
        (Mutation(intents.Join, ("specversion",), ABSENT), "specversion"),
        (Mutation(intents.Join, ("time",), 1767268800), "time"),
        (Mutation(intents.Join, ("time",), "2026-01-01 12:00:00Z"), "time"),
        (Mutation(intents.Join, ("traceparent",), None), "traceparent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_used_to_pass_is_refused(mutation: Mutation, place: str) -> None:
    fields = mutation.fields()
    assert place in by_contract(fields)[0]
    assert place in by_json_schema(mutation.payload, fields)


def test_names_of_python_are_not_names_of_the_contract() -> None:
    fields = Mutation(intents.Produce, ("data", "media_kind"), "video").fields()
    del fields["data"]["mediaKind"]
    assert by_contract(fields)[0] == {"mediaKind"}
    assert "mediaKind" in by_json_schema(intents.Produce, fields)


@pytest.mark.parametrize(("algorithm", "length"), [("sha-1", 20), ("sha-224", 28), ("sha-256", 32), ("sha-512", 64)])
def test_a_fingerprint_is_taken_in_any_case_and_given_on_in_upper_case(algorithm: str, length: int) -> None:
    value = ":".join(["aB"] * length)
    taken = DtlsFingerprint.model_validate({"algorithm": algorithm, "value": value})
    assert taken.value == value.upper()
    mutation = changed(intents.ConnectTransport, *_FINGERPRINT, value={"algorithm": algorithm, "value": value})
    judge(mutation)
    assert by_contract(mutation.fields())[0] == set()


def test_a_whole_number_may_have_a_point() -> None:
    mutation = changed(intents.CreateTransport, "initialAvailableOutgoingBitrate", value=600000.0)
    read = decode(json.dumps(mutation.fields()).encode()).data
    assert isinstance(read, intents.CreateTransport)
    assert type(read.initial_available_outgoing_bitrate) is int


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_no_message_has_a_loose_number_or_boolean(payload: type[Payload]) -> None:
    assert list(loose_scalars(payload.__pydantic_core_schema__)) == []


def loose_scalars(schema: Any) -> list[Any]:
    """The integers, numbers and booleans of a core schema that take what is none."""
    if isinstance(schema, list | tuple):
        return [found for item in schema for found in loose_scalars(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") in ("int", "float", "bool") and not schema.get("strict") else []
    inner = (value for key, value in schema.items() if key not in ("metadata", "serialization", "config"))
    return own + [found for value in inner for found in loose_scalars(value)]


def test_bad_input_is_one_class() -> None:
    for mutation in (Mutation(intents.Join, ("type",), "x"), Mutation(intents.Join, ("specversion",), "0.3")):
        with pytest.raises(BadInput):
            decode(json.dumps(mutation.fields()).encode())
