"""The scores of relayed producers at their origin.

A worker scores a piped producer by what crossed the pipe, not by what was lost on the way to the origin. So a relay
brings the origin's scores over the sideband, and consumers of a relay target are shown those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.media.rtp import ConsumerScore
from mafalda.mediasoup import Consumer, Producer

#: The notice of the worker's channel that has a producer's scores.
PRODUCER_SCORE = "PRODUCER_SCORE"


def scores_of(producer: Producer) -> tuple[int, ...]:
    """A producer's scores, 0 to 10, one for each of its encodings."""
    found = {score.encoding_idx: score.score for score in producer.score}
    return tuple(found.get(index, 0) for index in range(len(producer.rtp_parameters.encodings)))


def score_notice(producer: str, scores: Sequence[int]) -> ChannelNotice:
    """A notice with a producer's scores."""
    return ChannelNotice(event=PRODUCER_SCORE, handler=producer, body={"scores": list(scores)})


class OriginScores:
    """The scores, by encoding, of one relayed producer at its origin; empty while they are unknown."""

    def __init__(self) -> None:
        self.scores: tuple[int, ...] = ()
        self._listeners: dict[Consumer, Callable[[], None]] = {}

    def initialize(self, scores: Sequence[int]) -> None:
        """Set the scores as of the relay's opening, unless newer ones have come already."""
        if not self.scores:
            self.scores = tuple(scores)

    def update(self, notice: ChannelNotice) -> None:
        """Take the scores of a notice."""
        self.scores = tuple(int(score) for score in (notice.body or {})["scores"])
        for listener in list(self._listeners.values()):
            listener()

    def watch(self, consumer: Consumer, listener: Callable[[], None]) -> None:
        """Call ``listener`` at each change, until the consumer is closed."""
        self._listeners[consumer] = listener
        consumer.on(consumer.CLOSE, lambda _: self._listeners.pop(consumer, None))

    def shown(self, consumer: Consumer) -> ConsumerScore:
        """A consumer's score, with the producer's as they are at the origin.

        Source: ``worker/src/RTC/Consumer.cpp``, ``FillBufferScore``.
        """
        if not self.scores:
            return consumer.score
        layer = 0
        if consumer.type == "simulcast":
            layer = consumer.current_layers.spatial_layer if consumer.current_layers else len(self.scores)
        current = self.scores[layer] if layer < len(self.scores) else 0
        if consumer.type == "pipe":
            current = consumer.score.producer_score  # which is always the same
        return ConsumerScore(score=consumer.score.score, producer_score=current, producer_scores=self.scores)
