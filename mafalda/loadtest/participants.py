"""Participants of a load test, any of whom may speak: each sends Opus, and receives the loudest of its room."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mafalda.contract.messages.events import ConsumersClosed
from mafalda.contract.messages.intents import ConnectTransport, CreateTransport, Join, Produce, Subscribe
from mafalda.contract.messages.results import Done, JoinResult, ProduceResult, SubscribeResult, TransportResult
from mafalda.contract.messages.subscriptions import ProducerSelector
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.fleet import ConsumersEvent, FleetRequests, outcome_of
from mafalda.loadtest.hub import MediaEndpoint, MediaHub, now_ns
from mafalda.loadtest.peers import LoadPublisher
from mafalda.loadtest.rtp import CAPABILITIES, SILENCE_LEVEL, SPEECH_LEVEL

_POLL_S = 0.05


class LoadParticipant(LoadPublisher):
    """A peer that sends Opus with its level, and receives the loudest participants.

    Args:
        fleet: Requests.
        hub: Its endpoints'.
        config: The test's.
        room: Its room.
        peer: Its id, also its producer's.
    """

    def __init__(self, fleet: FleetRequests, hub: MediaHub, config: LoadTestConfig, room: str, peer: str) -> None:
        super().__init__(fleet, hub, config, room, peer, config.audio)
        self.is_speaking = False
        self._receiving: MediaEndpoint | None = None
        self._ssrcs: dict[str, int] = {}  # by consumer
        self._rows: dict[str, list[int]] = {}  # by producer: of its consumers, in the hub's table
        self._early: list[ConsumersEvent] = []  # while there is no endpoint yet

    @property
    def is_speaking(self) -> bool:
        """Whether its packets are loud."""
        return self._packetizer.level == SPEECH_LEVEL

    @is_speaking.setter
    def is_speaking(self, is_speaking: bool) -> None:
        self._packetizer.level = SPEECH_LEVEL if is_speaking else SILENCE_LEVEL

    @property
    def first_packet_ns(self) -> int:
        """When its first packet arrived."""
        return self._receiving.first_arrival_ns if self._receiving else 0

    def received(self, producer: str) -> int:
        """How many packets of a producer it has received."""
        return sum(int(self._hub.table["received"][row]) for row in self._rows.get(producer, ()))

    async def open(self) -> None:
        """Join, connect twice, produce and subscribe, requested in one flight.

        Raises:
            MafaldaError: It did not work.
        """
        self.started_ns = now_ns()
        dtls = self._hub.identity.dtls_parameters
        self._fleet.watch_consumers(self.room, self.peer, self._take_consumers)
        joined, send, send_connected, produced, receive, receive_connected, subscribed = await self._fleet.send(
            self.room,
            self.peer,
            Join(region=self._config.region),
            CreateTransport(transport="send", direction="send"),
            ConnectTransport(transport="send", dtls_parameters=dtls),
            Produce(
                producer=self.peer,
                transport="send",
                media_kind=self.shape.kind,
                rtp_parameters=self.shape.parameters(self._ssrc),
            ),
            CreateTransport(transport="receive", direction="receive"),
            ConnectTransport(transport="receive", dtls_parameters=dtls),
            Subscribe(
                subscription="loudest",
                select=[ProducerSelector(kind="audio")],
                loudest=self._config.loudest,
                rtp_capabilities=CAPABILITIES,
            ),
        )
        self._joined(await outcome_of(joined, JoinResult))
        sending, receiving = await outcome_of(send, TransportResult), await outcome_of(receive, TransportResult)
        await outcome_of(send_connected, Done)
        await outcome_of(receive_connected, Done)
        self._endpoint = await self._hub.open_endpoint(sending, on_rtcp=self._take_rtcp)
        self._receiving = await self._hub.open_endpoint(receiving)
        for event in self._early:
            self._count(self._receiving, event)
        await outcome_of(produced, ProduceResult)
        await outcome_of(subscribed, SubscribeResult)

    async def leave(self) -> None:
        """As of any peer."""
        try:
            await super().leave()
        finally:
            if self._receiving is not None:
                self._hub.close_endpoint(self._receiving)

    def _take_consumers(self, event: ConsumersEvent) -> None:
        if self._receiving is None:
            self._early.append(event)
        else:
            self._count(self._receiving, event)

    def _count(self, endpoint: MediaEndpoint, event: ConsumersEvent) -> None:
        """Count the streams of new consumers, and no longer those of closed ones."""
        if isinstance(event, ConsumersClosed):
            for consumer in event.consumers:
                if (ssrc := self._ssrcs.pop(consumer, None)) is not None:
                    self._hub.forget(endpoint, ssrc)
            return
        for it in event.consumers:
            ssrc = it.encodings[0].ssrc
            assert ssrc is not None
            self._ssrcs[it.consumer] = ssrc
            row = self._hub.expect(endpoint, ssrc, self.shape.clock_rate)
            self._rows.setdefault(it.producer, []).append(row)


@dataclass(slots=True)
class Conversation:
    """The participants of a room take turns to speak; whether all others hear those who do.

    Attributes:
        participants: Of one room.
        turns: How many there were.
        delays_s: From the beginning of a turn until a participant received the first packet of somebody who had not
            spoken in the turn before.
        unheard: Pairs of a listener and a speaker without any packet in a whole turn.
    """

    participants: Sequence[LoadParticipant]
    config: LoadTestConfig
    turns: int = 0
    delays_s: list[float] = field(default_factory=list)
    unheard: int = 0

    async def run(self, until_s: float) -> None:
        """Take whole turns until a time of the monotonic clock, at least one."""
        before: set[str] = set()
        while not self.turns or time.monotonic() + self.config.turn_s <= until_s:
            present = [it for it in self.participants if it.is_present]
            speakers = random.sample(present, min(self.config.speakers, len(present)))
            await self._take_turn(present, [it.peer for it in speakers], before)
            before = {it.peer for it in speakers}

    async def _take_turn(self, present: Sequence[LoadParticipant], speakers: Sequence[str], before: set[str]) -> None:
        waiting = {(it, speaker): it.received(speaker) for it in present for speaker in speakers if speaker != it.peer}
        for it in present:
            it.is_speaking = it.peer in speakers
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + self.config.turn_s:
            for listener, speaker in [pair for pair, count in waiting.items() if pair[0].received(pair[1]) > count]:
                del waiting[listener, speaker]
                if speaker not in before:
                    self.delays_s.append(now - begin)
            await asyncio.sleep(_POLL_S)
        self.turns += 1
        self.unheard += sum(1 for listener, _ in waiting if listener.is_present)
