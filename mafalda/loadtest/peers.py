"""The peers of a load test: a publisher of one stream, and a viewer of all streams of its room."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from mafalda.contract.messages.intents import ConnectTransport, Consume, CreateTransport, Join, Leave, Produce
from mafalda.contract.messages.results import ConsumeResult, Done, JoinResult, ProduceResult, TransportResult
from mafalda.errors import DeadlineExceeded, MafaldaError
from mafalda.loadtest.config import LoadTestConfig
from mafalda.loadtest.fleet import FleetRequests, outcome_of
from mafalda.loadtest.hub import MediaEndpoint, MediaHub, now_ns
from mafalda.loadtest.rtp import CAPABILITIES, Packetizer, StreamShape, requests_key_frame
from mafalda.session.requests import Outcome

_REPORT_INTERVAL_S = 1.0
_POLL_S = 0.05


class LoadPeer:
    """A peer that joined, or not: ``error`` says why. Times are nanoseconds since the epoch, 0: not yet."""

    def __init__(self, fleet: FleetRequests, hub: MediaHub, config: LoadTestConfig, room: str, peer: str) -> None:
        self.room = room
        self.peer = peer
        self.server = ""
        self.started_ns = 0
        self.joined_ns = 0
        self.error: str | None = None
        self.is_leaving = False
        self._fleet = fleet
        self._hub = hub
        self._config = config
        self._endpoint: MediaEndpoint | None = None
        self._is_placed = False

    @property
    def is_present(self) -> bool:
        """Whether the peer has a place and does what it should."""
        return self._is_placed and self.error is None and not self.is_leaving

    async def leave(self) -> None:
        """Leave the room, and close the socket.

        Raises:
            MafaldaError: The fleet did not answer.
        """
        self.is_leaving = True
        self._fleet.unwatch(self.room, self.peer)
        try:
            if self.started_ns:  # the join may be under way still
                await self._fleet.request(self.room, self.peer, Leave(), Done)
        finally:
            if self._endpoint is not None:
                self._hub.close_endpoint(self._endpoint)

    def fail(self, reason: str) -> None:
        """The peer does not do what it should; the first reason counts."""
        if self.error is None and not self.is_leaving:
            self.error = reason

    def _joined(self, placement: JoinResult) -> None:
        self.joined_ns = now_ns()
        self._is_placed = True
        self.server = placement.server
        self._fleet.watch(self.room, self.peer, self.fail)


class LoadPublisher(LoadPeer):
    """A peer that sends one stream.

    Args:
        fleet: Requests.
        hub: Its endpoint's.
        config: The test's.
        room: Its room.
        peer: Its id, also its producer's.
        shape: What it sends.
    """

    def __init__(
        self, fleet: FleetRequests, hub: MediaHub, config: LoadTestConfig, room: str, peer: str, shape: StreamShape
    ) -> None:
        super().__init__(fleet, hub, config, room, peer)
        self.shape = shape
        self._ssrc = secrets.randbelow(2**31) + 1
        self._packetizer = Packetizer(shape, self._ssrc, secrets.randbelow(2**15))

    @property
    def sent(self) -> int:
        """Packets."""
        return self._packetizer.packets

    async def open(self) -> None:
        """Join, connect and produce, requested in one flight.

        Raises:
            MafaldaError: It did not work.
        """
        self.started_ns = now_ns()
        joined, transport, connected, produced = await self._fleet.send(
            self.room,
            self.peer,
            Join(region=self._config.region),
            CreateTransport(transport="send", direction="send"),
            ConnectTransport(transport="send", dtls_parameters=self._hub.identity.dtls_parameters),
            Produce(
                producer=self.peer,
                transport="send",
                media_kind=self.shape.kind,
                rtp_parameters=self.shape.parameters(self._ssrc),
            ),
        )
        self._joined(await outcome_of(joined, JoinResult))
        result = await outcome_of(transport, TransportResult)
        await outcome_of(connected, Done)
        self._endpoint = await self._hub.open_endpoint(result, on_rtcp=self._take_rtcp)
        await outcome_of(produced, ProduceResult)

    async def send(self) -> None:
        """Send frames at an even pace and a sender report each second, until it is cancelled; late frames at once."""
        assert self._endpoint is not None
        loop = asyncio.get_running_loop()
        begin, frames, next_report = loop.time(), 0, loop.time()
        while True:
            for packet in self._packetizer.frame(now_ns()):
                self._endpoint.send_rtp(packet)
            frames += 1
            if loop.time() >= next_report:
                self._endpoint.send_rtcp(self._packetizer.sender_report(now_ns()))
                next_report += _REPORT_INTERVAL_S
            await asyncio.sleep(max(0.0, begin + frames / self.shape.frames_per_s - loop.time()))

    def _take_rtcp(self, packet: bytes) -> None:
        if requests_key_frame(packet):
            self._packetizer.request_key_frame()


class LoadViewer(LoadPeer):
    """A peer that receives every stream of its room."""

    @property
    def first_packet_ns(self) -> int:
        """When its first packet arrived."""
        return self._endpoint.first_arrival_ns if self._endpoint else 0

    async def open(self, publishers: Sequence[LoadPublisher]) -> None:
        """Join, connect and consume, requested in one flight, and await the first packet of each stream.

        Raises:
            MafaldaError: It did not work.
        """
        self.started_ns = now_ns()
        joined, transport, connected, *consumed = await self._fleet.send(
            self.room,
            self.peer,
            Join(region=self._config.region, audience=self._config.audience),
            CreateTransport(transport="receive", direction="receive"),
            ConnectTransport(transport="receive", dtls_parameters=self._hub.identity.dtls_parameters),
            *(
                Consume(
                    consumer=f"c-{number}",
                    transport="receive",
                    producer=publisher.peer,
                    rtp_capabilities=CAPABILITIES,
                    paused=False,
                )
                for number, publisher in enumerate(publishers)
            ),
        )
        self._joined(await outcome_of(joined, JoinResult))
        with self._hub.opening():
            await self._receive(publishers, transport, connected, consumed)

    async def _receive(
        self,
        publishers: Sequence[LoadPublisher],
        transport: asyncio.Future[Outcome],
        connected: asyncio.Future[Outcome],
        consumed: Sequence[asyncio.Future[Outcome]],
    ) -> None:
        result = await outcome_of(transport, TransportResult)
        await outcome_of(connected, Done)
        self._endpoint = await self._hub.open_endpoint(result)
        for publisher, outcome in zip(publishers, consumed, strict=True):
            consumer = await outcome_of(outcome, ConsumeResult)
            ssrc = consumer.rtp_parameters.encodings[0].ssrc
            assert ssrc is not None
            self._hub.expect(self._endpoint, ssrc, publisher.shape.clock_rate)
        await self._first_packets()

    async def _first_packets(self) -> None:
        assert self._endpoint is not None
        deadline = asyncio.get_running_loop().time() + self._config.media_timeout_s
        while missing := sum(1 for row in self._endpoint.rows if not self._hub.table["received"][row]):
            if asyncio.get_running_loop().time() > deadline:
                raise DeadlineExceeded(
                    "no packet", streams=missing, of=len(self._endpoint.rows), timeout_s=self._config.media_timeout_s
                )
            await asyncio.sleep(_POLL_S)

    def check_silence(self) -> None:
        """Fail if a stream of the viewer has been silent for ``silence_s``."""
        if self._endpoint is None or self.is_leaving:
            return
        since_ns = now_ns() - round(self._config.silence_s * 1e9)
        silent = sum(1 for row in self._endpoint.rows if self._hub.table["last_arrival_ns"][row] < since_ns)
        if silent:
            self.fail(f"silent: {silent} of {len(self._endpoint.rows)} streams at the end")


def describe(error: MafaldaError) -> str:
    """A short, countable reason: the error's code and sentence."""
    return f"{error.code}: {error.reason}"
