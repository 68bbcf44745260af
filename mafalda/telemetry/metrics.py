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
    "OF_STREAMS",
    "Observation",
    "Read",
    "count_rejection",
    "count_unreadable",
    "gauges",
    "is_metering",
    "load_gauges",
    "metering",
    "record_decision",
    "record_stream",
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
_round_trips = _meter.create_histogram(
    "mafalda.rtp.round_trip_time",
    unit="s",
    description="Round trip of RTCP between a worker and the far end, of sampled streams.",
    explicit_bucket_boundaries_advisory=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2],
)
_losses = _meter.create_histogram(
    "mafalda.rtp.loss",
    unit="1",
    description="Part of the packets that the last RTCP report says are lost, 0 to 1, of sampled streams.",
    explicit_bucket_boundaries_advisory=[0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
)
_scores = _meter.create_histogram(
    "mafalda.rtp.score",
    unit="1",
    description="mediasoup's score of a stream, 0 (worst) to 10, of sampled streams.",
    explicit_bucket_boundaries_advisory=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
)
_metering = False


def is_metering() -> bool:
    """Whether this process exports metrics; what costs something is measured only then."""
    return _metering


def count_rejection(component: str, action: str, code: str) -> None:
    """Count an intent that was refused; ``code`` is the error's word on the wire."""
    _rejections.add(1, {"mafalda.component": component, "mafalda.action": action, "error.type": code})


def count_unreadable(component: str, code: str) -> None:
    """Count a log entry that was skipped."""
    _unreadable.add(1, {"mafalda.component": component, "error.type": code})


def record_decision(reason: str, duration_s: float) -> None:
    """Record that something was decided and appended; ``reason`` is the decision's word, such as ``placed``."""
    _decisions.record(duration_s, {"mafalda.reason": reason})


def record_stream(attributes: Mapping[str, str], *, loss_ratio: float, score: int, round_trip_s: float | None) -> None:
    """Record what one sampled RTP stream is like.

    Args:
        attributes: Few values only: every combination is a series of its own.
        loss_ratio: Part of the packets that were lost, 0 to 1.
        score: mediasoup's, 0 to 10.
        round_trip_s: Seconds; ``None``: no RTCP report has told it.
    """
    _losses.record(loss_ratio, attributes)
    _scores.record(score, attributes)
    if round_trip_s is not None:
        _round_trips.record(round_trip_s, attributes)


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
#: Counters of an agent, by name: unit and description. They grow when a stream is sampled.
OF_STREAMS: dict[str, tuple[str, str]] = {
    "mafalda.rtp.packets": ("{packet}", "RTP packets of the streams, without retransmissions."),
    "mafalda.rtp.io": ("By", "Bytes of these packets."),
    "mafalda.rtp.packets.lost": ("{packet}", "Packets that RTCP reports say are lost."),
    "mafalda.rtp.packets.retransmitted": ("{packet}", "Packets that were sent again."),
    "mafalda.rtp.nacks": ("{message}", "RTCP NACK: requests for lost packets."),
    "mafalda.rtp.plis": ("{message}", "RTCP PLI: requests for a key frame."),
    "mafalda.rtp.firs": ("{message}", "RTCP FIR: requests for a key frame."),
}
_readers: dict[str, list[Read]] = {}


def _observe(name: str) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    """The callback of a metric that is read when it is exported."""
    readers = _readers.setdefault(name, [])

    def observations(_: CallbackOptions) -> Iterable[Observation]:
        return [observation for read in list(readers) for observation in read()]

    return [observations]


_described = [
    *((name, unit, description) for name, (unit, description, _) in _OF_WORKERS.items()),
    *((name, unit, description) for name, (unit, description, _) in _OF_SERVERS.items()),
    *((name, unit, description) for name, (unit, description) in _OF_FLEET.items()),
]
for _name, _unit, _description in _described:
    _meter.create_observable_gauge(_name, _observe(_name), unit=_unit, description=_description)
for _name, (_unit, _description) in OF_STREAMS.items():
    _meter.create_observable_counter(_name, _observe(_name), unit=_unit, description=_description)


@contextmanager
def gauges(readers: Mapping[str, Read]) -> Iterator[None]:
    """Export values while the block runs.

    Args:
        readers: By the metric's name a function that returns its values as of now. It runs in another thread.
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
    global _metering
    provider = MeterProvider(readers, resource=resource(service, instance))
    metrics.set_meter_provider(provider)
    _metering = True
    try:
        with _serving(listen):
            yield
    finally:
        _metering = False
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
