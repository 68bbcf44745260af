"""Trace context without an exporter, log lines, and envelopes: what each process does always."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from opentelemetry import trace

from mafalda.bus.compose import compose
from mafalda.contract.messages.envelope import Message, decode, encode
from mafalda.contract.messages.results import Done
from mafalda.telemetry.tracing import current_traceparent, exports, handling, new_traceparent, parse_traceparent, span

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SUBJECT = "mafalda.room.r.peer.p.result.join"


def a_message(cause: Message | None = None) -> Message:
    return compose(Done(intent="test", generation=1), subject=SUBJECT, source="/test", cause=cause)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        "nonsense",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        SAMPLED[:36] + "0" * 16 + "-01",
        "ff" + SAMPLED[2:],
    ],
)
def test_no_parent(bad: str | None) -> None:
    assert parse_traceparent(bad) is None


def test_a_first_message_has_a_valid_trace_of_its_own() -> None:
    one = a_message()
    other = a_message()
    assert parse_traceparent(one.traceparent)
    assert one.traceparent != other.traceparent
    assert (one.correlationid, one.causationid) == (one.id, None)
    assert decode(encode(one)) == one


def test_an_answer_carries_on_correlation_and_trace() -> None:
    asked = a_message()
    asked = asked.model_copy(update={"traceparent": SAMPLED})
    for answer in (
        a_message(asked),
        _handled(asked),
    ):
        assert (answer.correlationid, answer.causationid) == (asked.id, asked.id)
        assert answer.traceparent == SAMPLED  # nobody records here, and nothing is cut


def _handled(asked: Message) -> Message:
    with handling(asked, "test.handle"):
        return a_message(asked)


def test_spans_nest_and_end() -> None:
    assert current_traceparent() is None
    with span("outer"):
        outer = current_traceparent()
        assert parse_traceparent(outer)
        with span("inner"):
            inner = current_traceparent()
            assert inner
            assert outer
            assert inner.split("-")[1] == outer.split("-")[1]
        with handling(None, "poison"):
            assert trace.get_current_span().get_span_context().is_valid
    assert current_traceparent() is None


def test_an_error_passes_through_a_span() -> None:
    with pytest.raises(KeyError), span("fails"):
        raise KeyError
    assert current_traceparent() is None


def test_a_new_trace_is_not_sampled_where_nobody_exports() -> None:
    assert new_traceparent().endswith("-00")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_environment_says_whether_spans_are_exported(environ: dict[str, str], expected: bool) -> None:
    assert exports(environ) is expected


LOGGING = """
import logging, structlog
from mafalda.telemetry.logs import configure_logging
from mafalda.bus.compose import compose
from mafalda.telemetry.tracing import handling
from mafalda.contract.messages.results import Done
configure_logging(human=False)
message = compose(Done(intent="x", generation=1), subject="a.b", source="/x", id="m1")
message = message.model_copy(update={"traceparent": "%s"})
log = structlog.get_logger("test")
log.debug("hidden")
with handling(message, "x"):
    log.info("joined", action="join", room_id="r")
    logging.getLogger("library").error("broken %%s", "pipe")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("failed", action="fail")
log.info("after", action="after")
"""


def test_log_lines_are_json_with_the_ids_of_what_is_handled() -> None:
    ran = subprocess.run([sys.executable, "-c", LOGGING % SAMPLED], capture_output=True, check=True, timeout=30)
    joined, library, failed, after = (json.loads(line) for line in ran.stderr.splitlines())
    assert ran.stdout == b""
    for line in (joined, library, failed):
        assert line["trace_id"] == SAMPLED.split("-")[1]
        assert line["span_id"] == SAMPLED.split("-")[2]
        assert (line["message_id"], line["correlation_id"]) == ("m1", "m1")
    assert (joined["level"], joined["action"], joined["room_id"]) == ("info", "join", "r")
    assert (library["logger"], library["event"]) == ("library", "broken pipe")
    assert "ValueError: bad" in failed["exception"]
    assert "trace_id" not in after
    assert "message_id" not in after


def test_the_sdk_is_loaded_by_who_exports_alone() -> None:
    command = "import sys; import mafalda.telemetry.tracing; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert "opentelemetry.trace" in loaded
    assert not any(name.startswith("opentelemetry.sdk") for name in loaded)
