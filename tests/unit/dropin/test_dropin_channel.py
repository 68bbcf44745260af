"""The worker's side of the channel: what the driver says is read, and what is said the driver reads."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from mafalda.dropin.process.startup import log_frame, running_frame
from mafalda.mediasoup.channel import messages, worker_side
from mafalda.mediasoup.codec.channel_json import from_json, to_json
from mafalda.mediasoup.errors import FramingError, InvalidParameters
from mafalda.mediasoup.fbs import schema as generated

INFO = {"protocol": "udp", "ip": "127.0.0.1", "portRange": {"min": 0, "max": 0}, "flags": {}}


@pytest.mark.parametrize("pid", [1, 42, 31337, 4194304])
def test_the_first_words_are_those_of_the_codec(pid: int) -> None:
    payload = worker_side.encode_notification("WORKER_RUNNING", str(pid), None)
    assert running_frame(pid, 4) == struct.pack("<I", len(payload)) + payload
    line = f"Eno fleet {'x' * (pid % 7)}"
    logged = worker_side.encode_log(line)
    assert log_frame(line) == struct.pack("<I", len(logged)) + logged


def test_requests_of_a_library_are_read() -> None:
    body = {"webRtcServerId": "s1", "listenInfos": [INFO]}
    raw = messages.encode_request(7, "WORKER_CREATE_WEBRTCSERVER", "", body)
    request = worker_side.decode(raw)
    assert isinstance(request, worker_side.Request)
    assert (request.id, request.method, request.handler) == (7, "WORKER_CREATE_WEBRTCSERVER", "")
    assert request.body is not None
    assert request.body["listenInfos"][0]["ip"] == "127.0.0.1"
    assert worker_side.has_its_body(request)


def test_a_missing_body_is_noticed() -> None:
    request = worker_side.Request(1, "TRANSPORT_PRODUCE", "t", None)
    assert not worker_side.has_its_body(request)
    assert worker_side.has_its_body(worker_side.Request(1, "TRANSPORT_DUMP", "t", None))


def test_notifications_of_a_library_are_read() -> None:
    decoded = worker_side.decode(messages.encode_notification("PRODUCER_SEND", "p", {"data": b"\x80rtp"}))
    assert decoded == worker_side.Notification("PRODUCER_SEND", "p", {"data": b"\x80rtp"})


@pytest.mark.parametrize("raw", [b"", b"\0" * 8, b"nonsense, and more of it", bytes(range(64))])
def test_garbage_is_no_message(raw: bytes) -> None:
    with pytest.raises(FramingError):
        worker_side.decode(raw)


def test_answers_are_what_the_driver_expects() -> None:
    usage = {name: number for number, (name, *_) in enumerate(generated.TABLES["FBS.Worker.ResourceUsageResponse"])}
    accepted = messages.decode(worker_side.encode_accepted(3, "WORKER_GET_RESOURCE_USAGE", usage))
    assert accepted == messages.Response(3, True, usage, None, None)
    refused = messages.decode(worker_side.encode_refused(4, "TypeError", "why"))
    assert isinstance(refused, messages.Response)
    assert (refused.id, refused.accepted, refused.error, refused.reason) == (4, False, "TypeError", "why")


def test_every_method_and_event_has_a_body_of_the_schema() -> None:
    answers = {member for member, _ in generated.UNIONS["FBS.Response.Body"]}
    kinds = ("WebRtcTransport", "PlainTransport", "PipeTransport", "DirectTransport")
    used = {body.format(kind) for body in worker_side.RESPONSE_BODIES.values() for kind in kinds}
    assert used == answers
    events = set(generated.ENUMS["FBS.Notification.Event"])
    decoded = {member for member, _ in generated.UNIONS["FBS.Notification.Body"]}
    own = {body for body in messages.NOTIFICATION_BODIES.values() if body}
    assert set(worker_side.NOTIFICATION_BODIES) < events
    assert set(worker_side.NOTIFICATION_BODIES.values()) == decoded - own
    assert set(worker_side.RESPONSE_BODIES) < set(messages.REQUEST_BODIES)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"data": b"\x00\xff", "list": [b"", {"deep": b"1"}]},
        {"listen": ("ListenIndividual", {"listenInfos": [INFO]})},
        {"text": "$bytes", "number": 1.5, "none": None, "yes": True},
    ],
)
def test_bodies_travel_as_json(value: dict[str, Any]) -> None:
    assert from_json(to_json(value)) == value


def test_a_notification_has_its_body_even_if_nothing_is_in_it() -> None:
    """A consumer that has no layers any more: mediasoup's library for Node dies of a body that is not there."""
    bodies: list[dict[str, Any] | None] = [{}, None]
    for body in bodies:
        decoded = worker_side.decode(worker_side.encode_notification("CONSUMER_LAYERS_CHANGE", "c1", body))
        assert decoded.body is not None
        assert decoded.body.get("layers") is None


def test_bad_json_is_refused() -> None:
    with pytest.raises(InvalidParameters):
        from_json({"data": {"$bytes": "not base64!"}})
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    with pytest.raises(InvalidParameters):
        from_json(deep)
