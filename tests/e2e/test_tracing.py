"""One trace from a client's join to the worker's request, over all processes, at a real OTLP receiver."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.e2e.conftest import up

DEADLINE_S = 30


class Receiver:
    """OTLP over HTTP, kept in memory: span name and service by trace."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str, str, str]] = []  # service, name, trace, span, parent
        self.counts: dict[tuple[str, str], int] = {}  # metric and error type
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                (receiver.take if self.path.endswith("/traces") else receiver.take_metrics)(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *args: object) -> None:
                """Say nothing: the tests look at what arrived."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    self.spans.append((names.get("service.name", "?"), span.name, *ids))

    def take_metrics(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                for point in metric.sum.data_points:
                    kinds = {item.key: item.value.string_value for item in point.attributes}
                    self.counts[metric.name, kinds.get("error.type", "")] = point.as_int

    def services_of(self, trace: str) -> set[str]:
        return {service for service, _, of, _, _ in self.spans if of == trace}


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


async def publish(url: str, subject: str, data: bytes) -> None:
    """As a stranger; returns when its answer is there."""
    connection = await nats.connect(url)
    try:
        answered = await connection.subscribe("live.mafalda.room.lobby.peer.mallory.result.*")
        await connection.flush()
        await connection.jetstream().publish(subject, data)
        await answered.next_msg(timeout=DEADLINE_S)
    finally:
        await connection.close()


@pytest.mark.timeout(150)
def test_a_join_is_one_trace_through_all_processes(state: Path) -> None:
    with receiver() as otlp:
        exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with up(state, "--workers", "1", **exporting) as running:
            running.mafalda("demo", "--once", "--attach", "--viewers", "1", "--duration", "1", timeout_s=100)
            asyncio.run(publish(running.nats_url, "mafalda.room.lobby.peer.mallory.intent.join", b"nonsense"))
        # everything has stopped, so every span has been sent
        assert otlp.counts == {("mafalda.rejections", "malformed-message"): 1}
        joins = [trace for service, name, trace, _, _ in otlp.spans if name == "client.join"]
        assert joins, {name for _, name, *_ in otlp.spans}
        for trace in joins:
            assert {"mafalda-demo", "mafalda-allocator", "mafalda-agent"} <= otlp.services_of(trace)
            in_trace = {span: (name, parent) for _, name, of, span, parent in otlp.spans if of == trace}
            requests = [name for name, _ in in_trace.values() if name.startswith("mediasoup.request")]
            roots = [name for name, parent in in_trace.values() if parent not in in_trace]
            assert roots == ["client.join"]
            if trace == joins[0]:
                assert "mediasoup.request worker.create_router" in requests
