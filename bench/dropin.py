"""What ``mafalda-worker`` costs: calls and media through it, next to a real worker, in the same run.

Python's driver drives both, so the difference is the drop-in's. Calls take turns, round by round; so do the
media. What does not belong here: starting it (``virtual``), sending media (``media_load``).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bench.figures import Figure, latency, p50
from bench.media_load import Audience, Forwarded, Stage, stage
from bench.media_streams import CODECS, Stream
from bench.piping import pipe
from bench.virtual import DropIn, dropin
from mafalda.mediasoup import Producer, Router, WebRtcTransport, create_worker

T = TypeVar("T")
ConsumeFar = Callable[[Producer], Awaitable[object]]
AUDIO = [{"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}]
REAL, BY_HAND = "real worker", "two, piped by hand"

#: An allocator counts each transport as a whole peer, 2 % of a core, until load reports show what it really costs
#: (5 s): faster than this, not all of them fit on one worker, and the rest wait or are refused.
RAMP_S = 0.25
CONSUMERS = 40
IN_FLIGHT = 300
LISTEN = {"protocol": "udp", "ip": "127.0.0.1"}
STREAM = Stream("video", sizes=(1200,), frames_per_s=300)


async def measure(quick: bool) -> list[Figure]:
    """Calls, then media."""
    return [*await _calls(20 if quick else 200), *await _media(quick)]


@dataclass(slots=True)
class Caller:
    """A router with what the calls need, and how long each took, in seconds."""

    router: Router
    send: WebRtcTransport
    near: WebRtcTransport
    consume_far: ConsumeFar
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def round(self, number: int) -> None:
        """Each call once."""
        await self._time("transport dump", self.send.dump())
        plain = await self._time("create PlainTransport", self.router.create_plain_transport(listen_info=LISTEN))
        await plain.close()
        webrtc = await self._time("create WebRtcTransport", _webrtc(self.router))
        await webrtc.close()
        producer = await self._time("produce", self.send.produce(kind="audio", rtp_parameters=_opus(number)))
        capabilities = self.router.rtp_capabilities
        near = self.near.consume(producer_id=producer.id, rtp_capabilities=capabilities)
        await self._time("consume, same worker", near)
        await self._time("consume, relay opened", self.consume_far(producer))
        await producer.close()

    async def flight(self) -> float:
        """Many consumes requested at once; how many were made in a second."""
        producers = [await self.send.produce(kind="audio", rtp_parameters=_opus(10_000 + it)) for it in range(10)]
        capabilities = self.router.rtp_capabilities
        start = time.perf_counter()
        consumes = (
            self.near.consume(producer_id=producers[it % 10].id, rtp_capabilities=capabilities)
            for it in range(IN_FLIGHT)
        )
        await asyncio.gather(*consumes)
        took_s = time.perf_counter() - start
        for producer in producers:
            await producer.close()
        return IN_FLIGHT / took_s

    async def _time(self, what: str, call: Awaitable[T]) -> T:
        start = time.perf_counter()
        result = await call
        self.samples[what].append(time.perf_counter() - start)
        return result


async def _calls(rounds: int) -> list[Figure]:
    async with _real_caller() as real, dropin(workers=2, policy="spread") as behind:
        ours = await _caller(behind)
        for caller in (real, ours):
            await caller.round(0)
            caller.samples.clear()  # the first opens pipes
        for number in range(1, rounds + 1):
            await real.round(number)
            await ours.round(number)
        flights = [(await real.flight(), await ours.flight()) for _ in range(3)]
    rates = [p50(of) for of in zip(*flights, strict=True)]
    return [
        *(
            latency("dropin", what, ours.samples[what], of, BY_HAND if "relay" in what else REAL)
            for what, of in real.samples.items()
        ),
        Figure("dropin", f"{IN_FLIGHT} consumes in flight", rates[1], "consumes/s", rates[0], REAL),
    ]


async def _caller(behind: DropIn) -> Caller:
    """Transports on the real worker of the sender, and on the other."""
    router = await behind.worker.create_router(media_codecs=AUDIO)
    transports = [await _webrtc(router) for _ in range(8)]
    places = await behind.places(router)
    send = transports[0]
    near = next(it for it in transports[1:] if places[it.id] == places[send.id])
    far = next(it for it in transports if places[it.id] != places[send.id])

    async def consume_far(producer: Producer) -> object:
        return await far.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)

    return Caller(router, send, near, consume_far)


@asynccontextmanager
async def _real_caller() -> AsyncIterator[Caller]:
    """Two real workers and a pipe, as an application makes it by hand."""
    async with create_worker() as worker, create_worker() as second:
        router = await worker.create_router(media_codecs=AUDIO)
        other = await second.create_router(media_codecs=AUDIO)
        far = await _webrtc(other)
        piped = await pipe(router, other)

        async def consume_far(producer: Producer) -> object:
            await piped.relay(producer)
            return await far.consume(producer_id=producer.id, rtp_capabilities=other.rtp_capabilities)

        yield Caller(router, await _webrtc(router), await _webrtc(router), consume_far)


async def _media(quick: bool) -> list[Figure]:
    """Packets forwarded per CPU-second on one and on two workers, by the drop-in and by hand.

    Over two workers a packet costs more, whoever made the relay: each of the producer's crosses once (sent and
    received in the clear), and wakes two processes, each for half of the consumers.
    """
    seconds, turns = 1.5 if quick else 4, 2 if quick else 10
    pushed: dict[str, list[Forwarded]] = defaultdict(list)
    async with (
        _real_stage(workers=1) as real_one,
        _real_stage(workers=2) as real_two,
        _stage(workers=1, policy="pack") as one,
        _stage(workers=2, policy="spread") as two,
    ):
        stages = [("real one", real_one), ("one", one), ("real two", real_two), ("two", two)]
        for _ in range(turns):  # short and in turns, each time another first: the machine's other work comes and goes
            for name, it in stages:
                pushed[name].append(await it.push(seconds))
            stages = [*stages[1:], stages[0]]
    return _media_figures(pushed)


@asynccontextmanager
async def _real_stage(*, workers: int) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(create_worker()) for _ in range(workers)]
        routers = [await worker.create_router(media_codecs=CODECS) for worker in running]
        yield await stack.enter_async_context(stage(routers, [it.pid for it in running], [STREAM], Audience(CONSUMERS)))


@asynccontextmanager
async def _stage(*, workers: int, policy: str) -> AsyncIterator[Stage]:
    async with dropin(workers=workers, policy=policy) as behind:
        router = await behind.worker.create_router(media_codecs=CODECS)
        audience = Audience(CONSUMERS, ramp_s=RAMP_S)
        async with stage([router], await behind.real_pids(), [STREAM], audience) as made:
            if (relays := await behind.relays(router)) != workers - 1:
                raise RuntimeError(
                    f"{relays} relays over {workers} workers: the consumers are not where they should be"
                )
            yield made


def _media_figures(pushed: dict[str, list[Forwarded]]) -> list[Figure]:
    rate = {name: p50([it.per_cpu_s for it in pushes]) for name, pushes in pushed.items()}
    everything = [it for pushes in pushed.values() for it in pushes]
    arrived = 100 * sum(it.packets for it in everything) / sum(it.wanted for it in everything)
    unit = "packets/CPU-s"
    return [
        Figure("dropin", "media, on one worker", rate["one"], unit, rate["real one"], REAL),
        Figure("dropin", "media, over two workers", rate["two"], unit, rate["real one"], REAL),
        Figure("dropin", "  the same, next to a relay by hand", rate["two"], unit, rate["real two"], BY_HAND),
        Figure("dropin", "  of which the relay: two by hand", rate["real two"], unit, rate["real one"], REAL),
        Figure("dropin", f"  forwarded of {STREAM.packets_per_s:.0f}/s × {CONSUMERS}", arrived, "%"),
    ]


async def _webrtc(router: Router) -> WebRtcTransport:
    return await router.create_webrtc_transport(listen_infos=[LISTEN])


def _opus(number: int) -> dict[str, object]:
    return {
        "mid": str(number),
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
        "encodings": [{"ssrc": 1_000_000 + number}],
        "rtcp": {"cname": "bench"},
    }
