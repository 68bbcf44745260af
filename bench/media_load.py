"""Producers, their consumers, and what forwarding costs the mediasoup-workers that do it.

Each viewer has a transport of its own, as each participant has. Most send to sockets that nobody reads: the kernel
drops what does not fit, and the worker needs no answer. A few are listened to, for the times of arrival.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field

import psutil

from bench.media_sinks import LOOPBACK, Listener, Network, unread_socket
from bench.media_streams import Sender, Stream, Suite, new_key, outbound
from bench.media_viewers import watch
from bench.piping import pipe
from mafalda.media.rtp import RtpCapabilities
from mafalda.media.transport import SrtpParameters
from mafalda.mediasoup import Consumer, PlainTransport, Producer, Router, Transport, WebRtcServer

Source = Stream | tuple[Stream, ...]  # several: the layers of simulcast, the lowest first
SETTLE_S = 0.1  # what is still in socket buffers when the sender stops


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches, and how.

    Attributes:
        viewers: How many; each consumes every stream.
        suite: Their SRTP crypto suite; ``None``: plain RTP.
        server: They are WebRTC endpoints on this server's socket; ``None``: plain transports with sockets of their own.
        network: Where they are.
        listeners: How many are listened to.
        ramp_s: Seconds before each.
    """

    viewers: int
    suite: Suite | None = "AEAD_AES_128_GCM"
    server: WebRtcServer | None = None
    network: Network = LOOPBACK
    listeners: int = 0
    ramp_s: float = 0


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What came of one push: packets that consumers sent, CPU seconds of the workers, times on the way."""

    packets: int
    wanted: int
    cpu_s: float
    delays_s: Sequence[float] = ()
    listened: int = 0

    @property
    def per_cpu_s(self) -> float:
        return self.packets / self.cpu_s


@dataclass(slots=True)
class Stage:
    """Senders and their audience, and the processes that carry the media between them."""

    senders: list[Sender]
    workers: Sequence[psutil.Process]
    consumers: list[tuple[Consumer, Sender]] = field(default_factory=list)  # and whose packets each forwards
    listeners: list[Listener] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)

    async def push(self, seconds: float) -> Forwarded:
        """Send, and count what was forwarded and what it cost."""
        for listener in self.listeners:
            listener.arrivals_ns.clear()
        before, cpu_s = await self._sent(), self._cpu_s()
        pushed = await asyncio.gather(*(sender.send(seconds) for sender in self.senders))
        await asyncio.sleep(SETTLE_S)
        cpu_s = self._cpu_s() - cpu_s
        packets = {sender.ssrc: count for sender, count in zip(self.senders, pushed, strict=True)}
        wanted = sum(packets[sender.ssrc] for _, sender in self.consumers)
        return Forwarded(
            await self._sent() - before, wanted, cpu_s, self._delays_s(), sum(pushed) * len(self.listeners)
        )

    async def count_lost(self) -> int:
        """Packets that producers missed."""
        stats = await asyncio.gather(*(producer.get_stats() for producer in self.producers))
        return sum(entry["packetsLost"] for found in stats for entry in found)

    def _delays_s(self) -> list[float]:
        """Of what listeners got; there is one sender then."""
        sent = self.senders[0].sent_at_ns
        arrivals = (item for listener in self.listeners for item in listener.arrivals_ns.items())
        return [(arrived - sent[packet]) / 1e9 for packet, arrived in arrivals if packet in sent]

    async def _sent(self) -> int:
        stats = await asyncio.gather(*(consumer.get_stats() for consumer, _ in self.consumers))
        return sum(entry["packetCount"] for found in stats for entry in found if entry["type"] == "outbound-rtp")

    def _cpu_s(self) -> float:
        times = [worker.cpu_times() for worker in self.workers]
        return sum(it.user + it.system for it in times)


@asynccontextmanager
async def stage(
    routers: Sequence[Router],
    pids: Sequence[int],
    streams: Sequence[Source],
    audience: Audience,
    *,
    srtp_pipes: bool = False,
) -> AsyncIterator[Stage]:
    """Make a producer of each stream, and viewers that consume them all.

    Args:
        routers: The first has the producers; they are piped to the others, which are on the far side of the audience's
            network; viewers take turns among all.
        pids: The workers that carry the media.
        streams: What is sent. Of a producer with several layers each viewer gets one, taking turns.
        audience: Who watches.
        srtp_pipes: Encrypt between the routers.
    """
    with ExitStack() as stack:
        endpoint = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        endpoint.bind((LOOPBACK.near, 0))
        made = Stage([], [psutil.Process(pid) for pid in pids])
        producers = []
        for number, stream in enumerate(streams):
            layers = stream if isinstance(stream, tuple) else (stream,)
            senders, producer = await _source(routers[0], endpoint, layers, 4242 + 10 * number, audience.suite)
            made.senders += senders
            made.producers.append(producer)
            producers.append((producer, senders))
        for router in routers[1:]:
            piped = await pipe(routers[0], router, srtp=srtp_pipes, ips=(audience.network.near, audience.network.far))
            for producer, _ in producers:
                await piped.relay(producer)
        # Without header extensions there is no bandwidth estimation, for which nobody here would answer.
        capabilities = RtpCapabilities(codecs=routers[0].rtp_capabilities.codecs)
        sink = stack.enter_context(closing(unread_socket(audience.network)))
        every = audience.viewers // audience.listeners if audience.listeners else 0
        for number in range(audience.viewers):
            await asyncio.sleep(audience.ramp_s)
            target = sink
            if every and number % every == every // 2:
                made.listeners.append(stack.enter_context(closing(Listener.open(audience.network))))
                target = made.listeners[-1].endpoint
            elif audience.server:
                target = stack.enter_context(closing(unread_socket(audience.network)))
            ip = audience.network.far if number % len(routers) else audience.network.near
            transport = await _viewer(routers[number % len(routers)], ip, target, audience)
            for producer, senders in producers:
                layer = number % len(senders)
                consumer = await transport.consume(
                    producer_id=producer.id,
                    rtp_capabilities=capabilities,
                    preferred_layers={"spatialLayer": layer} if len(senders) > 1 else None,
                )
                made.consumers.append((consumer, senders[layer]))
        yield made


async def _source(
    router: Router, endpoint: socket.socket, layers: tuple[Stream, ...], first_ssrc: int, suite: Suite | None
) -> tuple[list[Sender], Producer]:
    key = new_key(suite)
    transport = await _plain(router, LOOPBACK.near, endpoint, key)
    ssrcs = range(first_ssrc, first_ssrc + len(layers))
    producer = await transport.produce(kind=layers[0].kind, rtp_parameters=layers[0].parameters(*ssrcs))
    address = (transport.tuple.local_address, transport.tuple.local_port)
    session = outbound(key) if key else None
    senders = [
        Sender(layer, ssrc, address, endpoint, session, is_layer=len(layers) > 1)
        for layer, ssrc in zip(layers, ssrcs, strict=True)
    ]
    return senders, producer


async def _viewer(router: Router, ip: str, endpoint: socket.socket, audience: Audience) -> Transport:
    if audience.server is None:
        return await _plain(router, ip, endpoint, new_key(audience.suite))
    assert audience.suite is not None
    endpoint.setblocking(False)
    transport = await router.create_webrtc_transport(
        webrtc_server=audience.server, enable_tcp=False, ice_consent_timeout=0
    )
    await watch(transport, endpoint, audience.suite)
    return transport


async def _plain(router: Router, ip: str, endpoint: socket.socket, key: SrtpParameters | None) -> PlainTransport:
    listen_info = {"protocol": "udp", "ip": ip}
    to_ip, to_port = endpoint.getsockname()
    if key is None:
        transport = await router.create_plain_transport(listen_info=listen_info)
        await transport.connect(ip=to_ip, port=to_port)
        return transport
    suite = key.crypto_suite
    transport = await router.create_plain_transport(listen_info=listen_info, enable_srtp=True, srtp_crypto_suite=suite)
    await transport.connect(ip=to_ip, port=to_port, srtp_parameters=key)
    return transport
