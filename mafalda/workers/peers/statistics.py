"""What a client measures, with what its worker knows: taken, and appended when it matters."""

from __future__ import annotations

import structlog

from mafalda.contract.messages.events import StatisticsReported
from mafalda.contract.messages.queries import ReportStatistics, Scores, StatisticsTaken
from mafalda.errors import MafaldaError, StaleGeneration
from mafalda.mediasoup import Consumer
from mafalda.workers.peers.session.session import PeerSession

log = structlog.get_logger("mafalda.workers")
BEST = 10


def take_statistics(session: PeerSession, report: ReportStatistics) -> StatisticsTaken:
    """Take a report of a client.

    Raises:
        StaleGeneration: It was measured at another place.
    """
    if report.generation != session.generation:
        raise StaleGeneration("measured at another place", generation=session.generation)
    cause = session.statistics.take(report.ways, session.services.now())
    if cause is not None:
        event = StatisticsReported(
            generation=session.generation,
            server=session.place.server,
            worker=session.place.worker,
            interval_s=report.interval_s,
            ways=report.ways,
            cause=cause,
            scores=_sent_scores(session),
            layers=_sent_layers(session),
        )
        # Not one of the session's jobs: while the log is full, nobody's intents wait for statistics.
        session.services.tasks.spawn(_append(session, event), f"statistics of {session.peer}")
    return StatisticsTaken(interval_s=session.services.config.statistics_interval_s)


def scores(session: PeerSession) -> Scores:
    """The scores of what the peer sends and receives."""
    sent = {id: score for id, score in _sent_scores(session).items() if score < BEST}
    received: dict[str, int] = {}
    for held in session.objects.consumers.values():
        consumer = held.consumer
        if not isinstance(consumer, Consumer) or consumer.paused or consumer.producer_paused:
            continue
        score = held.relay.scores.shown(consumer) if held.relay else consumer.score
        origin = max(score.producer_scores, default=score.producer_score)
        if origin < BEST:
            received[held.producer] = origin
    return Scores(sent=sent, received=received)


def _sent_scores(session: PeerSession) -> dict[str, int]:
    """Of the peer's producers that flow: that of the best encoding."""
    return {
        id: max(it.score for it in producer.score)
        for id, producer in session.objects.producers.items()
        if producer.score and not producer.paused
    }


def _sent_layers(session: PeerSession) -> dict[str, int]:
    """The spatial layers that the worker sends to the peer."""
    return {
        held.producer: held.consumer.current_layers.spatial_layer
        for held in session.objects.consumers.values()
        if isinstance(held.consumer, Consumer) and held.consumer.kind == "video" and held.consumer.current_layers
    }


async def _append(session: PeerSession, event: StatisticsReported) -> None:
    try:
        await session.responder.append_peer_event(event)
    except MafaldaError as error:
        log.warning("not appended", action="statistics_lost", **session.placement.log_fields, reason=str(error))
