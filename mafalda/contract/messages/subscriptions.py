"""Subscriptions: which producers a peer wants to receive, and the consumers that its agent makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.media.model import Model
from mafalda.media.rtp import (
    ConsumerLayers,
    ConsumerType,
    RtcpParameters,
    RtpCodecParameters,
    RtpEncodingParameters,
    RtpHeaderExtensionParameters,
    RtpParameters,
)
from mafalda.media.transport import SctpStreamParameters

#: Selectors of all subscriptions of a peer, which one message has to hold; each further subscription counts as one.
MAX_SELECTORS = 1024
ConsumerKind = Literal["audio", "video", "data"]


class ProducerSelector(Model):
    """Fits the producers of other peers that have every field which is given; without any field all of them."""

    kind: ConsumerKind | None = None
    peer: Id | None = None
    producer: Id | None = None
    exclude: bool = Field(False, description="What fits is not received.")

    def fits(self, kind: ConsumerKind, peer: str, producer: str) -> bool:
        """Whether a producer fits."""
        return self.kind in (None, kind) and self.peer in (None, peer) and self.producer in (None, producer)

    def covers(self, other: ProducerSelector) -> bool:
        """Whether everything that fits the other fits this one too."""
        return all(mine in (None, theirs) for mine, theirs in self._pairs(other))

    def overlaps(self, other: ProducerSelector) -> bool:
        """Whether something may fit both."""
        return all(mine is None or theirs in (None, mine) for mine, theirs in self._pairs(other))

    def _pairs(self, other: ProducerSelector) -> tuple[tuple[str | None, str | None], ...]:
        return (self.kind, other.kind), (self.peer, other.peer), (self.producer, other.producer)


class Subscription(Model):
    """What a peer wants to receive, for as long as it is in the room."""

    subscription: Id
    select: list[ProducerSelector] = Field(
        default_factory=lambda: [ProducerSelector()],
        max_length=MAX_SELECTORS,
        description="The last selector that fits a producer decides whether it is received; absent: everything is.",
    )
    transport: Id | None = Field(
        None,
        description="The transport of its consumers; absent: the peer's newest whose direction is not `send`.",
    )
    paused: bool = Field(False, description="Its consumers begin paused.")
    preferred_layers: ConsumerLayers | None = Field(None, description="Of its simulcast and SVC consumers.")
    loudest: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Of the audio that is selected only so many producers flow: the loudest of the room. Those that a "
        "selector names by `producer` flow besides, whether they are loud or not.",
    )

    def wish(self) -> Subscription:
        """The subscription alone, out of an intent or a result that has it."""
        return Subscription.model_construct(**{name: getattr(self, name) for name in Subscription.model_fields})

    def wants_by_loudness(self, kind: ConsumerKind, peer: str, producer: str) -> bool:
        """Whether a producer that it wants flows only while it is among the loudest."""
        last = self._last_fitting(kind, peer, producer)
        return self.loudest is not None and kind == "audio" and last is not None and last.producer is None

    def wants(self, kind: ConsumerKind, peer: str, producer: str) -> bool:
        """Whether a producer of another peer is to be received."""
        last = self._last_fitting(kind, peer, producer)
        return last is not None and not last.exclude

    def _last_fitting(self, kind: ConsumerKind, peer: str, producer: str) -> ProducerSelector | None:
        return next((it for it in reversed(self.select) if it.fits(kind, peer, producer)), None)


def change_selection(
    select: Iterable[ProducerSelector], add: Iterable[ProducerSelector], remove: Iterable[ProducerSelector]
) -> list[ProducerSelector]:
    """The selectors after a change; those that decide nothing any more are left out.

    Args:
        select: The selectors before.
        add: What fits is received from now on.
        remove: What fits is not received any more, unless it is added as well.
    """
    found = list(select)
    changes = [it.model_copy(update={"exclude": True}) for it in remove]
    changes += [it.model_copy(update={"exclude": False}) for it in add]
    for change in changes:
        found = [it for it in found if not change.covers(it)]
        if not change.exclude or any(not it.exclude and it.overlaps(change) for it in found):
            found.append(change)
    return found


class ConsumerFormat(Model):
    """What the RTP parameters of several consumers have in common; ``format`` is its number at the peer's place."""

    format: int = Field(ge=0)
    codecs: list[RtpCodecParameters]
    header_extensions: list[RtpHeaderExtensionParameters] = Field(default_factory=list)


class SubscribedConsumer(Model):
    """A consumer or data consumer that was made for a subscription.

    The RTP parameters of a consumer are ``codecs`` and ``headerExtensions`` of its format with ``mid``, ``encodings``
    and ``rtcp`` as they are here.
    """

    consumer: Id
    producer: Id
    kind: ConsumerKind
    type: ConsumerType | None = Field(None, description="Absent for data.")
    format: int | None = Field(None, ge=0, description="Absent for data.")
    mid: str | None = None
    encodings: list[RtpEncodingParameters] = Field(default_factory=list)
    rtcp: RtcpParameters | None = None
    msid: str | None = None
    paused: bool = False
    producer_paused: bool = False
    relayed: bool = False
    sctp_stream_parameters: SctpStreamParameters | None = Field(None, description="For data only.")
    label: str | None = Field(None, description="For data only.")
    protocol: str | None = Field(None, description="For data only.")

    def rtp_parameters(self, formats: Mapping[int, ConsumerFormat]) -> RtpParameters:
        """The RTP parameters of a consumer, which is not for data.

        Args:
            formats: Those of the peer's place, by number.

        Raises:
            KeyError: Its format is not among them.
        """
        common = formats[-1 if self.format is None else self.format]
        return RtpParameters(
            mid=self.mid,
            codecs=tuple(common.codecs),
            header_extensions=tuple(common.header_extensions),
            encodings=tuple(self.encodings),
            rtcp=self.rtcp or RtcpParameters(),
            msid=self.msid,
        )


class ConsumeFailure(Model):
    """A producer that a subscription wants and that cannot be consumed."""

    producer: Id
    error: ErrorInfo
