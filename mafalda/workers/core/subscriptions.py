"""What a peer's subscriptions want, against the consumers that were made for them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import Done, SubscribeResult
from mafalda.contract.messages.subscriptions import ConsumerFormat, ConsumerKind, Subscription
from mafalda.media.rtp import RtpParameters
from mafalda.projection.state import ProducerState, RoomState

#: Consumers of producers that are quiet now are kept, muted, up to so many for each that may be loud.
MUTED_FOR_EACH_LOUD = 3


class WantedConsumer(NamedTuple):
    """A consumer that is to be made."""

    subscription: Subscription
    producer: ProducerState


class Kept(NamedTuple):
    """A consumer that was made."""

    subscription: str
    producer: str


@dataclass(slots=True)
class Plan:
    """What is to be done: consumers to open, those to close by subscription, and those to mute or not any more."""

    open: list[WantedConsumer] = field(default_factory=list)
    close: dict[str, list[str]] = field(default_factory=dict)
    mute: list[str] = field(default_factory=list)
    unmute: list[str] = field(default_factory=list)


def carried_over(command: PlacePeer, later: Iterable[Payload]) -> list[Subscription]:
    """The subscriptions with which a peer comes to a place.

    Args:
        command: The placement; its subscriptions are as of its decision.
        later: The results that the former place has appended from then until the command was stored, in order.
    """
    found = {wish.subscription: wish for wish in command.subscriptions}
    for result in later:
        match result:
            case SubscribeResult():
                found[result.subscription] = result.wish()
            case Done(intent="unsubscribe", target=str(target)):
                found.pop(target, None)
    return list(found.values())


def kind_of(producer: ProducerState) -> ConsumerKind:
    """What a consumer of a producer is."""
    if producer.data:
        return "data"
    return "audio" if producer.media_kind == "audio" else "video"


@dataclass(slots=True)
class SubscriptionBook:
    """The subscriptions of a peer at one place.

    Only producers of which something has changed are looked at, so the work of a change does not grow with the room.
    """

    peer: str
    generation: int
    wishes: dict[str, Subscription] = field(default_factory=dict)
    _consumers: dict[str, Kept] = field(default_factory=dict)
    _consumer_of: dict[Kept, str] = field(default_factory=dict)
    _refused: set[Kept] = field(default_factory=set)
    _failed: set[Kept] = field(default_factory=set)  # of which the peer was told, and that are tried again
    _pending: dict[str, None] = field(default_factory=dict)
    _formats: list[ConsumerFormat] = field(default_factory=list)
    _muted: dict[str, None] = field(default_factory=dict)  # since they are not among the loudest; the longest first
    _told_formats: dict[str, int] = field(default_factory=dict)  # how many, by subscription
    _last_number: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether no producer has to be looked at."""
        return not self._pending

    def look_at(self, *producers: str) -> None:
        """Something has changed about these producers."""
        if self.wishes or self._consumers:
            self._pending.update(dict.fromkeys(producers))

    def look_at_all(self, room: RoomState | None) -> None:
        """Something has changed about the subscriptions, or what they need."""
        self.look_at(*(room.producers if room else ()), *(kept.producer for kept in self._consumers.values()))

    def opened_again(self, producer: str) -> None:
        """A producer was opened: consumers of it that were refused may be possible now."""
        self._refused = {kept for kept in self._refused if kept.producer != producer}
        self._failed = {kept for kept in self._failed if kept.producer != producer}
        self.look_at(producer)

    def subscribe(self, wish: Subscription) -> None:
        """Add a subscription, or replace the one with its id."""
        self.wishes[wish.subscription] = wish
        self._told_formats.pop(wish.subscription, None)
        self._forget(wish.subscription)

    def unsubscribe(self, subscription: str) -> list[str]:
        """Remove a subscription; returns its consumers, which are not the book's any more."""
        self.wishes.pop(subscription, None)
        self._told_formats.pop(subscription, None)
        self._forget(subscription)
        gone = self.consumers_of(subscription)
        for consumer in gone:
            self.closed(consumer)
        return gone

    def _forget(self, subscription: str) -> None:
        self._refused = {kept for kept in self._refused if kept.subscription != subscription}
        self._failed = {kept for kept in self._failed if kept.subscription != subscription}

    def plan(
        self, room: RoomState | None, limit: int, loudest: Callable[[int], frozenset[str]] = lambda _: frozenset()
    ) -> Plan:
        """Decide about the next producers, at most ``limit``, of which something has changed.

        Args:
            room: The room's state.
            limit: How many producers.
            loudest: The loudest so many producers of the room.
        """
        found = Plan()
        for _ in range(min(limit, len(self._pending))):
            producer_id = next(iter(self._pending))
            del self._pending[producer_id]
            producer = room.producers.get(producer_id) if room else None
            if producer is None or producer.peer == self.peer:
                continue  # its consumers end with it
            for wish in self.wishes.values():
                is_loud = wish.loudest is None or producer_id in loudest(wish.loudest)
                self._decide(found, wish, producer, is_loud=is_loud)
        return found

    def _decide(self, plan: Plan, wish: Subscription, producer: ProducerState, *, is_loud: bool) -> None:
        key = Kept(wish.subscription, producer.producer)
        consumer = self._consumer_of.get(key)
        who = kind_of(producer), producer.peer, producer.producer
        closing = plan.close.get(wish.subscription, [])
        if not wish.wants(*who):
            if consumer is not None and consumer not in closing:
                self._muted.pop(consumer, None)
                plan.close.setdefault(wish.subscription, []).append(consumer)
        elif is_loud or not wish.wants_by_loudness(*who):
            if consumer is None and key not in self._refused:
                plan.open.append(WantedConsumer(wish, producer))
            elif consumer is not None and consumer in self._muted:
                del self._muted[consumer]
                plan.unmute.append(consumer)
            elif consumer is not None and consumer in closing:
                closing.remove(consumer)
                plan.unmute.append(consumer)
        elif consumer is not None and consumer not in self._muted and consumer not in closing:
            self._mute(plan, wish, consumer)

    def _mute(self, plan: Plan, wish: Subscription, consumer: str) -> None:
        """Keep a consumer that is not loud any more, muted; beyond some, the one that has been muted longest closes."""
        self._muted[consumer] = None
        plan.mute.append(consumer)
        muted = [it for it in self._muted if self._consumers[it].subscription == wish.subscription]
        if len(muted) > MUTED_FOR_EACH_LOUD * (wish.loudest or 1):
            del self._muted[muted[0]]
            if muted[0] in plan.mute:
                plan.mute.remove(muted[0])
            plan.close.setdefault(wish.subscription, []).append(muted[0])

    # --- consumers ----------------------------------------------------------------------------------

    def new_id(self, taken: Iterable[str] = ()) -> str:
        """An id for the next consumer, which the peer has not had yet."""
        while True:
            self._last_number += 1
            found = f"c{self.generation}-{self._last_number}"
            if found not in taken:
                return found

    def opened(self, consumer: str, subscription: str, producer: str) -> None:
        """A consumer was made."""
        kept = Kept(subscription, producer)
        self._consumers[consumer], self._consumer_of[kept] = kept, consumer
        self._failed.discard(kept)

    def closed(self, consumer: str) -> None:
        """A consumer has closed."""
        kept = self._consumers.pop(consumer, None)
        self._muted.pop(consumer, None)
        if kept and self._consumer_of.get(kept) == consumer:
            del self._consumer_of[kept]

    def refuse(self, subscription: str, producer: str) -> None:
        """A consumer cannot be made until the producer is opened again, or the client can receive something else."""
        self._refused.add(Kept(subscription, producer))

    def forget_refusals(self) -> None:
        """The client can receive something else."""
        self._refused.clear()

    def fail(self, subscription: str, producer: str) -> bool:
        """A consumer was not made, and is tried again; whether that is news for the peer."""
        kept = Kept(subscription, producer)
        is_new = kept not in self._failed
        self._failed.add(kept)
        return is_new

    def set_muted(self, consumer: str, *, muted: bool) -> None:
        """A consumer is still muted, or still flows: what was planned of it failed."""
        if not muted:
            self._muted.pop(consumer, None)
        elif consumer in self._consumers:
            self._muted[consumer] = None

    def format_of(self, parameters: RtpParameters) -> int:
        """The number of a consumer's format; a new one if the place has none like it."""
        codecs, extensions = list(parameters.codecs), list(parameters.header_extensions)
        for known in self._formats:
            if known.codecs == codecs and known.header_extensions == extensions:
                return known.format
        number = len(self._formats)
        self._formats.append(ConsumerFormat(format=number, codecs=codecs, header_extensions=extensions))
        return number

    def consumers_of(self, subscription: str) -> list[str]:
        """The consumers of a subscription."""
        return [consumer for consumer, kept in self._consumers.items() if kept.subscription == subscription]

    @property
    def formats(self) -> list[ConsumerFormat]:
        """All formats at this place."""
        return list(self._formats)

    def take_new_formats(self, subscription: str) -> list[ConsumerFormat]:
        """The formats that the peer has not been told yet for this subscription."""
        told = self._told_formats.get(subscription, 0)
        self._told_formats[subscription] = len(self._formats)
        return self._formats[told:]
