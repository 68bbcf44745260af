"""What a peer's connection was like at a moment of the past: its client's statistics, and its worker's load then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mafalda.contract.messages.events import (
    LoadSampled,
    PeerMoved,
    PeerStranded,
    StatisticsReported,
    WorkerDied,
)
from mafalda.contract.messages.load import WorkerLoad
from mafalda.contract.messages.statistics import StreamStatistics, Way, WayStatistics
from mafalda.monitor.records import Record

#: Entries of this time before and after the moment belong to it.
AROUND = timedelta(seconds=60)
#: A load sample is of the moment if it is not further from the report than this.
LOAD_AGE = timedelta(seconds=15)
#: A worker with more is not fine.
BUSY_CPU_RATIO, SLOW_CHANNEL_S = 0.85, 0.1
#: A lower part of packets that are lost is not worth a word in the summary.
NOTABLE_LOSS = 0.02


@dataclass(frozen=True, slots=True)
class Report:
    """A report of a client, and when it was appended."""

    time: datetime
    room: str
    data: StatisticsReported

    def way(self, way: Way) -> WayStatistics | None:
        """What it says of a way."""
        return next((it for it in self.data.ways if it.way == way), None)


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a worker, and when it was sampled."""

    time: datetime
    worker: WorkerLoad
    machine_cpu_ratio: float

    @property
    def is_fine(self) -> bool:
        """Whether the worker had room, and answered."""
        worker = self.worker
        is_busy = worker.cpu_ratio > BUSY_CPU_RATIO or worker.channel_latency_s > SLOW_CHANNEL_S
        return worker.state == "ready" and not is_busy


@dataclass(frozen=True, slots=True)
class ConnectionStory:
    """A peer's connection at a moment.

    Args:
        peer: The peer.
        at: The moment.
        report: The report of the moment, or the last one before it; ``None``: there is none.
        before: The report before that.
        load: The load of its worker at that time, if it was sampled.
        changes: What happened to the peer's place around the moment: times and sentences.
    """

    peer: str
    at: datetime
    report: Report | None
    before: Report | None
    load: Load | None
    changes: list[tuple[datetime, str]]


async def connection_story(entries: AsyncIterator[Record], peer: str, at: datetime) -> ConnectionStory:
    """Find what the log has of a peer's connection at a moment.

    Args:
        entries: The log, in order.
        peer: The peer's id.
        at: The moment.
    """
    reports: list[Report] = []
    loads: list[tuple[datetime, LoadSampled]] = []
    deaths: list[tuple[datetime, WorkerDied]] = []
    changes: list[tuple[datetime, str]] = []
    async for entry in entries:
        if entry.message is None or entry.message.time > at + AROUND:
            continue
        time, address = entry.message.time, entry.address
        match entry.message.data:
            case StatisticsReported() as data if address and address.room and address.peer == peer:
                reports.append(Report(time, address.room, data))
            case LoadSampled() as sampled if time > at - 2 * AROUND:
                loads.append((time, sampled))
            case WorkerDied() as died if time > at - AROUND:
                deaths.append((time, died))
            case PeerMoved(peer=moved) as data if moved == peer and time > at - AROUND:
                changes.append((time, f"moved to {data.worker}: {data.cause}"))
            case PeerStranded(peer=stranded) as data if stranded == peer and time > at - AROUND:
                changes.append((time, f"without a place: {data.error.message}"))
    report, before = _choose(reports, at)
    if report is not None:
        worker = report.data.worker
        changes += [(time, f"worker {worker} died") for time, died in deaths if died.worker == worker]
    load = _load_of(report, loads) if report else None
    return ConnectionStory(peer, at, report, before, load, sorted(changes))


def describe(story: ConnectionStory) -> Iterator[str]:
    """The story as lines for people; the first one is the summary."""
    report = story.report
    if report is None:
        yield f"{story.peer} at {_clock(story.at)}: its client reported no statistics until then"
    else:
        yield f"{story.peer} at {_clock(story.at)}: {', '.join(_summary(story, report))}"
        age_s = (story.at - report.time).total_seconds()
        when = f"{_clock(report.time)}, over {report.data.interval_s:.0f} s"
        yield f"in {report.room}, by the client's report of {when}" + (" (the last one before)" if age_s > 0 else "")
        for way in sorted(report.data.ways, key=lambda way: way.way, reverse=True):
            yield from _way_lines(story, way)
        yield _worker_line(story, report)
    for time, what in story.changes:
        yield f"{_clock(time)} {what}"


def _choose(reports: list[Report], at: datetime) -> tuple[Report | None, Report | None]:
    """The report whose interval holds the moment, else the last one before it; and the one before that."""
    index = -1
    for number, report in enumerate(reports):
        if report.time - timedelta(seconds=report.data.interval_s) <= at:
            index = number
    if index < 0:
        return None, None
    return reports[index], next((it for it in reversed(reports[:index]) if it.room == reports[index].room), None)


def _load_of(report: Report, loads: list[tuple[datetime, LoadSampled]]) -> Load | None:
    found = [
        Load(time, worker, sampled.load.cpu_ratio)
        for time, sampled in loads
        for worker in sampled.load.workers
        if worker.worker == report.data.worker and abs(time - report.time) <= LOAD_AGE
    ]
    return min(found, key=lambda load: abs(load.time - report.time), default=None)


# --- sentences -----------------------------------------------------------------------------------------


def _summary(story: ConnectionStory, report: Report) -> Iterator[str]:
    up, down = report.way("up"), report.way("down")
    if up is not None:
        yield _way_summary("uplink", up)
        yield from _switches(story, up)
    if down is not None:
        yield _way_summary("downlink", down)
    load = story.load
    yield "worker's load unknown" if load is None else "worker was fine" if load.is_fine else "worker was overloaded"


def _way_summary(name: str, way: WayStatistics) -> str:
    if way.quality == "lost":
        return f"nothing arrived on the {name}"
    if way.loss_ratio is not None and way.loss_ratio >= NOTABLE_LOSS:
        return f"{name} lost {_percent(way.loss_ratio)}"
    return f"{name} {way.quality}"


def _switches(story: ConnectionStory, up: WayStatistics) -> Iterator[str]:
    """What is sent in another resolution than before."""
    before = story.before.way("up") if story.before else None
    known = {it.producer: it for it in before.streams} if before else {}
    for stream in up.streams:
        former = known.get(stream.producer)
        if former is None or not stream.height or not former.height or stream.height == former.height:
            continue
        direction = "down" if stream.height < former.height else "up"
        limit = f", limited by {stream.limitation}" if stream.limitation not in (None, "none") else ""
        yield f"layer switched {direction} ({_size(former)} to {_size(stream)}{limit})"


def _way_lines(story: ConnectionStory, way: WayStatistics) -> Iterator[str]:
    former = story.before.way(way.way) if story.before else None
    facts = [way.quality, _bitrate(way.bitrate_bps)]
    if way.loss_ratio is not None:
        was = f" ({_percent(former.loss_ratio)} before)" if former and former.loss_ratio is not None else ""
        facts.append(f"lost {_percent(way.loss_ratio)}{was}")
    if way.round_trip_ms is not None:
        facts.append(f"round trip {way.round_trip_ms:.0f} ms")
    if way.jitter_ms is not None:
        facts.append(f"jitter {way.jitter_ms:.0f} ms")
    if way.available_outgoing_bps is not None:
        facts.append(f"{_bitrate(way.available_outgoing_bps)} available")
    yield f"{way.way + 'link:':<10}{', '.join(facts)}"
    for stream in way.streams:
        yield f"{'':<10}{_stream_line(story, way.way, stream)}"


def _stream_line(story: ConnectionStory, way: Way, stream: StreamStatistics) -> str:
    facts = [] if stream.bitrate_bps is None else [_bitrate(stream.bitrate_bps)]
    if stream.width and stream.height:
        rate = f" at {stream.frames_per_second:.0f} fps" if stream.frames_per_second is not None else ""
        facts.insert(0, f"{_size(stream)}{rate}")
    if stream.encodings is not None:
        facts.append(f"{stream.encodings} encoding{'' if stream.encodings == 1 else 's'}")
    if stream.limitation not in (None, "none"):
        facts.append(f"limited by {stream.limitation}")
    if stream.loss_ratio:
        facts.append(f"lost {_percent(stream.loss_ratio)}")
    if stream.freezes:
        facts.append(f"{stream.freezes} freeze{'' if stream.freezes == 1 else 's'}")
    data = story.report.data if story.report else None
    if data and way == "up" and stream.producer in data.scores:
        facts.append(f"score {data.scores[stream.producer]} of 10 at the worker")
    if data and way == "down" and stream.producer in data.layers:
        facts.append(f"layer {data.layers[stream.producer]}")
    return f"{stream.media_kind} {stream.producer}: {', '.join(facts)}"


def _worker_line(story: ConnectionStory, report: Report) -> str:
    where, load = f"worker:   {report.data.worker} on {report.data.server}", story.load
    if load is None:
        return f"{where}: no load was sampled at that time"
    worker = load.worker
    return (
        f"{where}: {worker.cpu_ratio:.0%} of a core, channel latency {worker.channel_latency_s * 1000:.1f} ms, "
        f"{worker.state}, machine {load.machine_cpu_ratio:.0%} ({_clock(load.time)})"
    )


def _clock(time: datetime) -> str:
    return time.astimezone().strftime("%H:%M:%S")


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.0f} %" if ratio >= 0.1 else f"{ratio * 100:.1f} %"


def _bitrate(bps: int) -> str:
    return f"{bps / 1e6:.1f} Mbit/s" if bps >= 1_000_000 else f"{bps / 1e3:.0f} kbit/s"


def _size(stream: StreamStatistics) -> str:
    return f"{stream.width}x{stream.height}"
