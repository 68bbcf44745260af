"""The metrics of a process: by OTLP where the environment names an endpoint, for Prometheus where a port is given.

Names follow OpenTelemetry's conventions; Prometheus has ``mafalda.worker.memory.usage`` as
``mafalda_worker_memory_usage_bytes``. Gauges are read when they are exported, so a worker that ended is not exported
any more.

Sources: https://opentelemetry.io/docs/specs/semconv/general/naming/,
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

from mafalda.contract.messages.load import ServerLoad, WorkerLoad
from mafalda.telemetry.tracing import exports, resource

__all__ = [
    "Observation",
    "Read",
    "count_rejection",
    "count_unreadable",
    "gauges",
    "load_gauges",
    "metering",
    "record_decision",
]

Listen = tuple[str, int]  # address and port

_meter = metrics.get_meter("mafalda")
_rejections = _meter.create_counter(
    "mafalda.rejections", unit="{rejection}", description="Intents that were answered with an error."
)
_unreadable = _meter.create_counter(
    "mafalda.unreadable_messages", unit="{message}", description="Log entries that could not be read or were misplaced."
)
_decisions = _meter.create_histogram(
    "mafalda.decision.duration",
    unit="s",
    description="From a decision until what was decided is in the log.",
    explicit_bucket_boundaries_advisory=[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
)


def count_rejection(component: str, action: str, code: str) -> None:
    """Count an intent that was refused; ``code`` is the error's word on the wire."""
    _rejections.add(1, {"mafalda.component": component, "mafalda.action": action, "error.type": code})


def count_unreadable(component: str, code: str) -> None:
    """Count a log entry that was skipped."""
    _unreadable.add(1, {"mafalda.component": component, "error.type": code})


def record_decision(reason: str, duration_s: float) -> None:
    """Record that something was decided and appended; ``reason`` is the decision's word, such as ``placed``."""
    _decisions.record(duration_s, {"mafalda.reason": reason})


# --- what is read when it is exported -------------------------------------------------------------

Read = Callable[[], Iterable[Observation]]

#: Gauges of an agent, by name: unit and description. Those of workers have a value for each of them.
_OF_WORKERS: dict[str, tuple[str, str, Callable[[WorkerLoad], float]]] = {
    "mafalda.worker.cpu.utilization": ("1", "CPU seconds a second.", lambda it: it.cpu_ratio),
    "mafalda.worker.memory.usage": ("By", "Resident set size.", lambda it: it.memory_bytes),
    "mafalda.worker.channel.latency": ("s", "Round trip of the last probe.", lambda it: it.channel_latency_s),
    "mafalda.worker.ready": ("1", "1 if it answers its probe, else 0.", lambda it: it.state == "ready"),
    "mafalda.worker.routers": ("{router}", "Rooms on the worker.", lambda it: it.routers),
    "mafalda.worker.transports": ("{transport}", "Transports.", lambda it: it.transports),
    "mafalda.worker.producers": ("{producer}", "Producers.", lambda it: it.producers),
    "mafalda.worker.consumers": ("{consumer}", "Consumers.", lambda it: it.consumers),
    "mafalda.worker.data_producers": ("{producer}", "Data producers.", lambda it: it.data_producers),
    "mafalda.worker.data_consumers": ("{consumer}", "Data consumers.", lambda it: it.data_consumers),
    "mafalda.worker.relays.in": ("{relay}", "Producers relayed to the worker.", lambda it: it.relays_in),
    "mafalda.worker.relays.out": ("{relay}", "Producers relayed from the worker.", lambda it: it.relays_out),
    "mafalda.worker.receive.rate": ("bit/s", "Received, over all transports.", lambda it: it.receive_bps),
    "mafalda.worker.send.rate": ("bit/s", "Sent, over all transports.", lambda it: it.send_bps),
}
_OF_SERVERS: dict[str, tuple[str, str, Callable[[ServerLoad], float | None]]] = {
    "mafalda.server.cpu.utilization": ("1", "CPU of the whole machine.", lambda it: it.cpu_ratio),
    "mafalda.server.memory.utilization": ("1", "Memory of the machine in use.", lambda it: it.memory_used_ratio),
    "mafalda.server.ports.left": ("{port}", "RTC ports that are not bound yet.", lambda it: it.ports_left),
    "mafalda.server.draining": ("1", "1 if the server drains, else 0.", lambda it: it.draining),
    "mafalda.agent.event_loop.lag": ("s", "How late the agent's own loop is.", lambda it: it.event_loop_lag_s),
}
#: Gauges of an allocator, as it sees the fleet.
_OF_FLEET: dict[str, tuple[str, str]] = {
    "mafalda.log.seq": ("{entry}", "The last log entry that was folded."),
    "mafalda.rooms": ("{room}", "Rooms with peers."),
    "mafalda.peers": ("{peer}", "Peers, unplaced ones too."),
    "mafalda.peers.unplaced": ("{peer}", "Peers without a place."),
    "mafalda.joins.waiting": ("{join}", "Joins that wait for capacity."),
    "mafalda.workers": ("{worker}", "Living workers."),
    "mafalda.workers.ineligible": ("{worker}", "Living workers on which no peer can be placed, by reason."),
}
_readers: dict[str, list[Read]] = {}


def _create_gauge(name: str, unit: str, description: str) -> None:
    readers = _readers.setdefault(name, [])

    def observations(_: CallbackOptions) -> Iterable[Observation]:
        return [observation for read in list(readers) for observation in read()]

    _meter.create_observable_gauge(name, [observations], unit=unit, description=description)


_described = [
    *((name, unit, description) for name, (unit, description, _) in _OF_WORKERS.items()),
    *((name, unit, description) for name, (unit, description, _) in _OF_SERVERS.items()),
    *((name, unit, description) for name, (unit, description) in _OF_FLEET.items()),
]
for _gauge in _described:
    _create_gauge(*_gauge)


@contextmanager
def gauges(readers: Mapping[str, Read]) -> Iterator[None]:
    """Export values while the block runs.

    Args:
        readers: By the gauge's name a function that returns its values as of now. It runs in another thread.
    """
    for name, read in readers.items():
        _readers[name].append(read)
    try:
        yield
    finally:
        for name, read in readers.items():
            _readers[name].remove(read)


def load_gauges(last: Callable[[], ServerLoad | None]) -> dict[str, Read]:
    """The gauges of an agent, for ``gauges``.

    Args:
        last: Returns its last load report; ``None`` before the first.
    """

    def of_workers(value: Callable[[WorkerLoad], float]) -> Iterator[Observation]:
        if load := last():
            for worker in load.workers:
                yield Observation(value(worker), {"mafalda.server": load.server, "mafalda.worker": worker.worker})

    def of_server(value: Callable[[ServerLoad], float | None]) -> Iterator[Observation]:
        if (load := last()) and (found := value(load)) is not None:
            yield Observation(found, {"mafalda.server": load.server})

    readers: dict[str, Read] = {name: partial(of_workers, value) for name, (_, _, value) in _OF_WORKERS.items()}
    return readers | {name: partial(of_server, value) for name, (_, _, value) in _OF_SERVERS.items()}


# --- export ---------------------------------------------------------------------------------------


@contextmanager
def metering(service: str, *, instance: str | None = None, listen: Listen | None = None) -> Iterator[None]:
    """Export this process's metrics while the block runs.

    Call it once a process: OpenTelemetry's provider is global and cannot be replaced.

    Args:
        service: ``service.name``, unless ``OTEL_SERVICE_NAME`` says another.
        instance: ``service.instance.id``, such as a server's id.
        listen: Where Prometheus finds them, at ``/metrics``; ``None``: nowhere.

    Raises:
        OSError: The address cannot be listened on.
    """
    readers: list[MetricReader] = []
    if exports(signal="METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # costs 0.1 s to import

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    if listen:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader

        readers.append(PrometheusMetricReader())
    if not readers:
        yield
        return
    provider = MeterProvider(readers, resource=resource(service, instance))
    metrics.set_meter_provider(provider)
    try:
        with _serving(listen):
            yield
    finally:
        provider.shutdown()


@contextmanager
def _serving(listen: Listen | None) -> Iterator[None]:
    """Serve ``/metrics`` from a thread."""
    if listen is None:
        yield
        return
    from prometheus_client import start_http_server

    address, port = listen
    server, thread = start_http_server(port, address)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
