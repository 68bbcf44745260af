"""A peer of the example's conference server: its signalling, and real WebRTC media by pymediasoup and aiortc."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiortc import MediaStreamTrack
from pymediasoup import AiortcHandler, Device
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters

from mafalda.client.webrtc import compat
from mafalda.media.transport import IceCandidate as Candidate

TIMEOUT_S = 30


class ConferencePeer:
    """Somebody in a room. ``events`` are what the server sent, as (name, data)."""

    def __init__(self, server: tuple[str, int], path: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = asyncio.Event()
        self.transports: list[str] = []
        self._server = server
        self._path = path
        self._arrived = asyncio.Condition()
        self._device = Device(handlerFactory=AiortcHandler.createFactory())
        self._open: dict[str, tuple[Any, list[Candidate]]] = {}

    async def request(self, method: str, **data: Any) -> Any:
        """Ask the server.

        Raises:
            RuntimeError: It refused, with its words.
        """
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*self._server)
            try:
                body = json.dumps(data).encode()
                head = f"POST {self._path}/{method} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                status = await _head(reader)
                answer = json.loads(await reader.read())
            finally:
                writer.close()
        if status != 200:
            raise RuntimeError(f"{status}: {answer['error']}")
        return answer

    async def event(self, name: str, timeout_s: float = TIMEOUT_S) -> Any:
        """The last event of a name, or the first that comes."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: any(it[0] == name for it in self.events))
        return [data for event, data in self.events if event == name][-1]

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take the server's events until it ends them."""
        name = ""
        while line := (await reader.readline()).decode():
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: "):
                async with self._arrived:
                    self.events.append((name, json.loads(line[6:])))
                    self._arrived.notify_all()
        self.ended.set()

    async def load(self) -> None:
        """Negotiate our abilities with the room's router."""
        joined = await self.event("joined")
        await self._device.load(RtpCapabilities(**joined["rtpCapabilities"]))

    async def produce(self, track: MediaStreamTrack) -> str:
        """Send a track; its producer's id."""
        transport, candidates = await self._transport("send")
        with compat.reachable_from_here(candidates):
            producer = await transport.produce(track=track)
        return str(producer.id)

    async def consume(self, producer: str) -> MediaStreamTrack:
        """Receive a producer; the track that comes."""
        transport, candidates = await self._transport("receive")
        capabilities = compat.receivable(self._device).to_json_dict()
        response = await self.request(
            "consume", transport=transport.id, producer=producer, rtpCapabilities=capabilities
        )
        with compat.reachable_from_here(candidates):
            consumer = await transport.consume(
                id=response["id"],
                producerId=producer,
                kind=response["kind"],
                rtpParameters=RtpParameters(**response["rtpParameters"]),
            )
        await self.request("resumeConsumer", consumer=response["id"])
        track: MediaStreamTrack = consumer.track
        return track

    async def forget_transports(self) -> None:
        """Close our side of all transports; the next track gets a new one."""
        while self._open:
            _, (transport, _) = self._open.popitem()
            await compat.close_transport(transport, timeout_s=5)

    async def _transport(self, direction: str) -> tuple[Any, list[Candidate]]:
        if direction not in self._open:
            response = await self.request("createTransport")
            udp = [it for it in response["iceCandidates"] if it["protocol"] == "udp"]
            make = self._device.createSendTransport if direction == "send" else self._device.createRecvTransport
            transport = make(
                id=response["id"],
                iceParameters=IceParameters(**response["iceParameters"]),
                iceCandidates=[IceCandidate(**it) for it in udp],
                dtlsParameters=DtlsParameters(**response["dtlsParameters"]),
                sctpParameters=None,
                iceServers=[],
            )
            compat.prepare(transport)
            self._follow(transport)
            self.transports.append(response["id"])
            self._open[direction] = (transport, [Candidate.model_validate(it) for it in udp])
        return self._open[direction]

    def _follow(self, transport: Any) -> None:
        async def connect(dtls: Any) -> None:
            parameters = dtls.model_dump(exclude_none=True)
            await self.request("connectTransport", transport=transport.id, dtlsParameters=parameters)

        async def produce(kind: str, rtpParameters: Any, appData: Any) -> str:
            rtp = rtpParameters.model_dump(exclude_none=True)
            answer = await self.request("produce", transport=transport.id, kind=kind, rtpParameters=rtp)
            return str(answer["id"])

        transport.on("connect", connect)
        transport.on("produce", produce)


@asynccontextmanager
async def join(server: tuple[str, int], room: str, peer: str) -> AsyncIterator[ConferencePeer]:
    """Be in a room for as long as the block lasts."""
    path = f"/rooms/{room}/peers/{peer}"
    reader, writer = await asyncio.open_connection(*server)
    joined = ConferencePeer(server, path)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert await asyncio.wait_for(_head(reader), TIMEOUT_S) == 200
    listening = asyncio.create_task(joined.listen(reader), name=f"events-of-{peer}")
    try:
        await joined.load()
        yield joined
    finally:
        await joined.forget_transports()
        writer.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _head(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1])
