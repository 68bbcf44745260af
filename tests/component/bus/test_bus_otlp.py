"""One trace across two processes and the log, received by a real OTLP receiver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ASK = """
import asyncio, sys
from mafalda.bus.config import BusConfig
from mafalda.bus.compose import compose
from mafalda.bus.nats.bus import connect
from mafalda.telemetry.tracing import span, tracing
from mafalda.contract.messages.results import Done
async def main():
    async with connect(BusConfig.from_environment(name="asker")) as bus:
        with span("ask"):
            subject = "mafalda.room.r.peer.p.intent.join"
            await bus.append(subject, compose(Done(intent="join", generation=1), subject=subject, source="/asker"))
with tracing("asker", instance="one"):
    asyncio.run(main())
"""

ANSWER = """
import asyncio
from mafalda.bus.config import BusConfig
from mafalda.bus.compose import compose
from mafalda.bus.nats.bus import connect
from mafalda.telemetry.tracing import handling, tracing
from mafalda.contract.messages.envelope import decode
from mafalda.contract.messages.results import Done
async def main():
    async with connect(BusConfig.from_environment(name="answerer")) as bus:
        async for delivery in bus.read("mafalda.>"):
            asked = decode(delivery.data)
            with handling(asked, "answer", {"mafalda.room": "r"}):
                subject = "mafalda.room.r.peer.p.result.join"
                answer = compose(Done(intent="join", generation=1), subject=subject, source="/answerer", cause=asked)
                await bus.append(subject, answer)
with tracing("answerer"):
    asyncio.run(main())
"""


class Receiver:
    """An OTLP collector, as far as it takes to receive."""

    def __init__(self, server: ThreadingHTTPServer, requests: list[tuple[str, ExportTraceServiceRequest]]) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.requests = requests

    def spans(self) -> dict[tuple[str, str], Span]:
        """By service and name."""
        return {
            (service.value.string_value, span.name): span
            for _, request in self.requests
            for group in request.resource_spans
            for service in group.resource.attributes
            if service.key == "service.name"
            for scope in group.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    requests: list[tuple[str, ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                raise AssertionError("not asked for")
            requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, name="otlp-receiver")
    thread.start()
    try:
        yield Receiver(server, requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(code: str, nats_url: str, **environ: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env = {**kept, "MAFALDA_NATS_URL": nats_url, **environ}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_one_trace_from_process_to_process(receiver: Receiver, nats_url: str) -> None:
    for code in (ASK, ANSWER):
        run(code, nats_url, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert {path for path, _ in receiver.requests} == {"/v1/traces"}
    spans = receiver.spans()
    ask, asked = spans["asker", "ask"], spans["asker", "log.append"]
    answer, answered = spans["answerer", "answer"], spans["answerer", "log.append"]
    assert len({span.trace_id for span in spans.values()}) == 1
    assert asked.parent_span_id == ask.span_id
    assert answer.parent_span_id == ask.span_id  # the envelope's traceparent is where it was composed
    assert answered.parent_span_id == answer.span_id
    assert (asked.kind, answer.kind) == (Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER)
    attributes = {one.key: one.value.string_value for one in answer.attributes}
    assert attributes["messaging.system"] == "nats"
    assert attributes["messaging.destination.name"] == "mafalda.room.r.peer.p.intent.join"
    assert attributes["mafalda.room"] == "r"


def test_a_process_that_does_not_export_does_not_cut_the_trace(receiver: Receiver, nats_url: str) -> None:
    run(ASK, nats_url, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    run(ANSWER, nats_url)
    last_hop = ANSWER.replace("mafalda.>", "mafalda.room.*.peer.*.result.*").replace("bus.append", "asyncio.sleep(0) #")
    run(last_hop, nats_url, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    spans = receiver.spans()
    assert spans["answerer", "answer"].trace_id == spans["asker", "ask"].trace_id
    assert spans["answerer", "answer"].parent_span_id == spans["asker", "ask"].span_id


def test_nothing_is_exported_unless_told(receiver: Receiver, nats_url: str) -> None:
    run(ASK, nats_url)
    assert receiver.requests == []
