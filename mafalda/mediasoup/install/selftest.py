"""Check whether a worker forwards media; done with each freshly built one before it is published.

Once with its batch of datagrams and once without (``native/``), first packet by packet (``selftest_packets``). Then
two aiortc endpoints talk through the worker on loopback, one of them DTLS client and the other DTLS server, so that
the worker plays both roles; a tone goes in as Opus on the first and must come out on the second. Starting, dumping
and plain transports are not enough: a worker built against an OpenSSL with kernel TLS does all that and dies at its
first DTLS handshake (``docs/decisions/0001-building-the-worker.md``).

What does not belong here: tests of the driver or of mediasoup's features.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import aioice.ice
from aiortc import MediaStreamTrack
from pymediasoup import AiortcHandler, Device
from pymediasoup.models.transport import DtlsParameters, IceCandidate, IceParameters
from pymediasoup.rtp_parameters import RtpCapabilities, RtpParameters
from pymediasoup.transport import Transport

from mafalda.errors import MafaldaError, WorkerExited
from mafalda.media.model import Model
from mafalda.mediasoup import Router, WebRtcTransport, Worker, create_worker
from mafalda.mediasoup.install.errors import SelfTestFailed
from mafalda.mediasoup.install.selftest_packets import BATCH_VARIABLE, packets_test
from mafalda.mediasoup.install.tone import RATE_HZ, Listener, Tone

DEADLINE_S = 30.0

_LOOPBACK = "127.0.0.1"
_OPUS = {"kind": "audio", "mimeType": "audio/opus", "clockRate": RATE_HZ, "channels": 2}


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What was seen.

    Attributes:
        packets: Packets of all consumers that arrived unchanged and in order.
        dtls_roles: The roles that the worker played, sending endpoint's transport first.
        frames_decoded: Audio frames that came out until the tone was detected long enough.
        tone_hz: The frequency that was detected.
        took_s: Seconds of the whole test.
    """

    packets: int
    dtls_roles: tuple[str, ...]
    frames_decoded: int
    tone_hz: float
    took_s: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all this."""
        return asdict(self)


def run_self_test(binary: Path, *, batch: str = "on", deadline_s: float = DEADLINE_S) -> SelfTest:
    """Run the test in an event loop of its own. Arguments and errors as of ``self_test``."""
    return asyncio.run(self_test(binary, batch=batch, deadline_s=deadline_s))


async def self_test(binary: Path, *, batch: str = "on", deadline_s: float = DEADLINE_S) -> SelfTest:
    """Let packets and a tone pass through the worker.

    Args:
        binary: The worker.
        batch: ``on`` or ``off``: whether it batches what it sends.
        deadline_s: For the packets, and again for the tone.

    Raises:
        SelfTestFailed: the worker died, refused, or what went in did not come out in time.
    """
    started = time.monotonic()
    listener = Listener()
    try:
        packets = await packets_test(binary, batch=batch, deadline_s=deadline_s)
        async with asyncio.timeout(deadline_s):
            roles = await _pass_tone(binary, listener, {**os.environ, BATCH_VARIABLE: batch})
    except TimeoutError as error:
        raise SelfTestFailed(
            "the tone did not come through the worker in time",
            frames_decoded=listener.frames,
            detected_hz=listener.tone_hz,
            deadline_s=deadline_s,
        ) from error
    except SelfTestFailed:
        raise
    except MafaldaError as error:
        raise SelfTestFailed(f"the worker failed in the self-test: {error}", cause=error.code) from error
    if set(roles) != {"client", "server"} or listener.tone_hz is None:
        raise SelfTestFailed("the worker did not play both DTLS roles", dtls_roles=roles)
    return SelfTest(packets, roles, listener.frames, round(listener.tone_hz, 1), round(time.monotonic() - started, 3))


async def _pass_tone(binary: Path, listener: Listener, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Returns: the DTLS roles of the worker."""
    async with create_worker(bin=binary, log_level="warn", environment=environment) as worker:
        router = await worker.create_router(media_codecs=[_OPUS])
        device = Device(handlerFactory=AiortcHandler.createFactory())
        await device.load(RtpCapabilities(**_json(router.rtp_capabilities)))
        async with (
            _loopback_candidates(),
            _connection(device, router, "send") as (near, sending),
            _connection(device, router, "recv") as (far, receiving),
        ):
            producer = await sending.produce(Tone())
            track = await _consume(device, far, receiving, producer.id)
            await _unless_died(worker, listener.detect(track))
            return tuple(str(end.dtls_parameters.role) for end in (near, far))


async def _unless_died(worker: Worker, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, or raise at once when the worker dies."""
    death: asyncio.Future[WorkerExited] = asyncio.get_running_loop().create_future()
    unsubscribe = worker.once(Worker.DIED, death.set_result)
    if worker.died is not None:
        death.set_result(worker.died)
    working = asyncio.create_task(work, name="self-test listener")
    try:
        await asyncio.wait((working, death), return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            raise death.result()
        working.result()
    finally:
        unsubscribe()
        working.cancel()
        await asyncio.wait([working])


async def _consume(device: Device, far: WebRtcTransport, receiving: Transport, producer_id: str) -> MediaStreamTrack:
    assert device.rtpCapabilities is not None
    capabilities = device.rtpCapabilities.model_dump(exclude_none=True)
    consumer = await far.consume(producer_id=producer_id, rtp_capabilities=capabilities)
    mirrored = await receiving.consume(
        id=consumer.id,
        producerId=producer_id,
        kind="audio",
        rtpParameters=RtpParameters(**_json(consumer.rtp_parameters)),
    )
    track: MediaStreamTrack = mirrored.track
    return track


@contextlib.asynccontextmanager
async def _connection(
    device: Device, router: Router, direction: str
) -> AsyncIterator[tuple[WebRtcTransport, Transport]]:
    """The worker's end and the aiortc end of one WebRTC connection; it connects when it is first used."""
    server = await router.create_webrtc_transport(listen_infos=[{"protocol": "udp", "ip": _LOOPBACK}])
    create = device.createSendTransport if direction == "send" else device.createRecvTransport
    client = create(
        id=server.id,
        iceParameters=IceParameters(**_json(server.ice_parameters)),
        iceCandidates=[IceCandidate(**_json(candidate)) for candidate in server.ice_candidates],
        dtlsParameters=DtlsParameters(**_json(server.dtls_parameters)),
        sctpParameters=None,
        iceServers=[],
    )

    async def connect(parameters: DtlsParameters) -> None:
        await server.connect(dtls_parameters=parameters.model_dump(exclude_none=True))

    async def produce(kind: Literal["audio", "video"], parameters: RtpParameters, _: Any) -> str:
        rtp_parameters = parameters.model_dump(exclude_none=True)
        return str((await server.produce(kind=kind, rtp_parameters=rtp_parameters)).id)

    client.on("connect", connect)
    client.on("produce", produce)
    try:
        yield server, client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def _loopback_candidates() -> AsyncIterator[None]:
    """Let aioice use the loopback address, which it skips otherwise: a build host may have no other."""
    original = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [_LOOPBACK]
    try:
        yield
    finally:
        aioice.ice.get_host_addresses = original


def _json(parameters: Model) -> dict[str, Any]:
    """What pymediasoup's models take."""
    return parameters.model_dump(by_alias=True, exclude_none=True)
