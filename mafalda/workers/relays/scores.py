"""Scores of producers as they are at their origin, shown to who consumes them behind a relay.

A worker scores a piped producer by what crossed the pipe: what was lost on the way to the origin, and sent again, is
not seen there. What does not belong here: how scores get from worker to worker (``beside``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.media.rtp import ConsumerScore
from mafalda.mediasoup import Consumer, Producer
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.relays.pipes import PipeKey
from mafalda.workers.relays.sideband import RelaySideband, Stop

_SCORE = "PRODUCER_SCORE"


@dataclass(slots=True, eq=False)
class _Mirror:
    """What is known of a producer's scores at its origin, by encoding; nothing yet if that is empty."""

    scores: tuple[int, ...] = ()
    listeners: dict[Consumer, Callable[[], None]] = field(default_factory=dict)


class Scores:
    """Of all producers and mirrors on one server's workers."""

    def __init__(self, sideband: RelaySideband) -> None:
        self._sideband = sideband
        self._told: set[Producer] = set()  # those whose changes are told on
        self._mirrors: dict[RelayKey, _Mirror] = {}

    # --- the source ---------------------------------------------------------------------------------

    def carry(self, pipe: PipeKey, producer: Producer) -> Stop:
        """Tell a pipe's target of the producer's scores; returns how to stop that."""
        key = RelayKey(pipe.room, producer.id, pipe.source.worker)
        if key not in self._mirrors and producer not in self._told:
            self._told.add(producer)
            producer.on(producer.SCORE, lambda _: self._tell(key, _scores_of(producer)))
            producer.on(producer.CLOSE, lambda _: self._told.discard(producer))
        return self._sideband.carry(pipe, producer.id)

    def now(self, pipe: PipeKey, producer: Producer) -> tuple[int, ...]:
        """The scores of a producer on the pipe's source, as they are at its origin."""
        mirror = self._mirrors.get(RelayKey(pipe.room, producer.id, pipe.source.worker))
        return mirror.scores if mirror else _scores_of(producer)

    def _tell(self, key: RelayKey, scores: tuple[int, ...]) -> None:
        notice = ChannelNotice(event=_SCORE, handler=key.producer, body={"scores": list(scores)})
        self._sideband.tell(key.room, key.worker, notice)

    # --- the target ---------------------------------------------------------------------------------

    def expect(self, pipe: PipeKey, producer: str) -> Stop:
        """Keep the origin's scores for a mirror on a worker of ours; returns how to stop that."""
        key = RelayKey(pipe.room, producer, pipe.target.worker)
        self._mirrors[key] = mirror = _Mirror()

        def hear(notice: ChannelNotice) -> None:
            if notice.event == _SCORE:
                self._change(key, mirror, tuple(int(score) for score in (notice.body or {})["scores"]))

        stop_hearing = self._sideband.expect(pipe, producer, hear)

        def stop() -> None:
            stop_hearing()
            if self._mirrors.get(key) is mirror:
                del self._mirrors[key]

        return stop

    def begin(self, pipe: PipeKey, producer: str, scores: Sequence[int]) -> None:
        """What they were when the mirror was made, if nothing was heard since."""
        mirror = self._mirrors.get(RelayKey(pipe.room, producer, pipe.target.worker))
        if mirror and not mirror.scores:
            mirror.scores = tuple(scores)

    def _change(self, key: RelayKey, mirror: _Mirror, scores: tuple[int, ...]) -> None:
        mirror.scores = scores
        self._tell(key, scores)
        for listener in list(mirror.listeners.values()):
            listener()

    def watch(self, key: RelayKey, consumer: Consumer, listener: Callable[[], None]) -> None:
        """Call ``listener`` when the scores behind a consumer change at their origin, until the consumer is closed."""
        if mirror := self._mirrors.get(key):
            mirror.listeners[consumer] = listener
            consumer.on(consumer.CLOSE, lambda _: mirror.listeners.pop(consumer, None))

    def shown(self, key: RelayKey, consumer: Consumer) -> ConsumerScore:
        """A consumer's score, with that of its producer as it is at the origin.

        Source: ``worker/src/RTC/Consumer.cpp``, ``FillBufferScore``.
        """
        mirror = self._mirrors.get(key)
        if mirror is None or not mirror.scores:
            return consumer.score
        layer = 0
        if consumer.type == "simulcast":
            layer = consumer.current_layers.spatial_layer if consumer.current_layers else len(mirror.scores)
        current = mirror.scores[layer] if layer < len(mirror.scores) else 0
        if consumer.type == "pipe":
            current = consumer.score.producer_score  # which is always the same
        return ConsumerScore(score=consumer.score.score, producer_score=current, producer_scores=mirror.scores)


def _scores_of(producer: Producer) -> tuple[int, ...]:
    found = {score.encoding_idx: score.score for score in producer.score}
    return tuple(found.get(index, 0) for index in range(len(producer.rtp_parameters.encodings)))
