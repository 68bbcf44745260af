"""Each method has its body in the schema, and the driver uses every method and handles every notification."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mafalda.mediasoup
from mafalda.errors import InvalidParameters
from mafalda.mediasoup.channel import messages
from mafalda.mediasoup.errors import FramingError
from mafalda.mediasoup.fbs import schema as generated

DRIVER = Path(mafalda.mediasoup.__file__).parent
SOURCES = [path.read_text() for path in DRIVER.rglob("*.py") if "fbs" not in path.parts]
# mediasoup's library does not use it either: each transport has its own.
UNUSED_METHODS = {"TRANSPORT_CONNECT"}


def quoted(names: set[str]) -> set[str]:
    """Which of the names the driver's files mention, but for the table of methods itself."""
    used: set[str] = set()
    for source in SOURCES:
        if "REQUEST_BODIES: Mapping" not in source:
            used |= names & set(re.findall(r'"([A-Z0-9_]+)"', source))
    return used


def test_every_method_has_its_body() -> None:
    methods = generated.ENUMS["FBS.Request.Method"]
    assert len(methods) == 68
    assert set(messages.REQUEST_BODIES) == set(methods)
    bodies = {body for body in messages.REQUEST_BODIES.values() if body}
    assert bodies == {member for member, _ in generated.UNIONS["FBS.Request.Body"]}


def test_every_method_is_used() -> None:
    methods = set(generated.ENUMS["FBS.Request.Method"])
    assert methods - quoted(methods) == UNUSED_METHODS


def test_every_notification_is_handled_or_sent() -> None:
    events = set(generated.ENUMS["FBS.Notification.Event"])
    assert len(events) == 33
    assert events - quoted(events) == set()


def test_a_missing_body_is_refused_before_it_is_sent() -> None:
    for method, body in messages.REQUEST_BODIES.items():
        if body == "Worker_CreateRouterRequest":
            with pytest.raises(InvalidParameters):
                messages.encode_request(1, method, "x", None)


def test_a_request_is_not_a_message_of_a_worker() -> None:
    assert messages.decode(messages.encode_request(1, "WORKER_DUMP", "", None)) == messages.Other("Request")
    with pytest.raises(FramingError):
        messages.decode(b"")
