"""Workarounds for pymediasoup 1.5 and aiortc 1.16, and why each is needed.

- ``iceServers=None`` means a public STUN server, an empty list means none.
- aioice never offers 127.0.0.1. Towards a server on loopback nothing else is of use (``reachable_from_here``).
- aiortc has no ICE over TCP, so a transport need not listen on it.
- A transport's ``connect`` is fired and forgotten; the send transport is the DTLS server, the receive transport
  the client (``transport`` makes the intent a task of its own, which later steps wait for).
- pymediasoup runs no queue of its own: two negotiations at once on one transport break each other
  (``transport`` has a lock).
- ``stopSending`` does nothing: a closed producer's sender goes on (``stop_sender``).
- ``stopReceiving`` closes the SDP section and the next consumer recycles it, which aiortc cannot do: that consumer
  would never decode anything. So sections are left as they are and only the receiver is stopped (``stop_receiver``).
- A first video consumer opens a "probator", whose packets aiortc then tries to decode (``prepare``).
- aiortc sends REMB, but worker 3.27.1 uses transport-cc alone: it would stay at its first estimate for ever, and log
  an error for each report. Without REMB it does not estimate, and sends what is asked for (``receivable``).
- A data producer or consumer that is closed after its transport raises ``KeyError`` in a task that nobody awaits
  (``close_transport`` closes them first).
- ``producer.pause()`` is synchronous and needs a track with ``enabled``, which aiortc's have not (``tracks``).
- One encoding only: no simulcast.
- ``maxRetransmits`` of a data channel reaches the server, but not the local channel, which then is reliable.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aioice.ice
import structlog

from mafalda.media.rtp import RtpCapabilities, RtpHeaderExtensionUri
from mafalda.media.transport import IceCandidate

_log = structlog.get_logger(__name__)

#: Local addresses to offer instead of those that aioice finds.
_addresses: ContextVar[list[str] | None] = ContextVar("mafalda_ice_addresses", default=None)
_original_host_addresses = aioice.ice.get_host_addresses


def _host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    chosen = _addresses.get()
    if chosen is not None:
        return [address for address in chosen if (use_ipv6 if ":" in address else use_ipv4)]
    found: list[str] = _original_host_addresses(use_ipv4, use_ipv6)
    return found or (["127.0.0.1"] if use_ipv4 else [])


aioice.ice.get_host_addresses = _host_addresses


@contextmanager
def reachable_from_here(candidates: Iterable[IceCandidate]) -> Iterator[None]:
    """Inside, ICE gathers addresses from which the candidates can be reached, loopback included.

    Addresses are gathered in tasks that inherit the context, so that other users of aioice in this
    process see no difference.
    """
    offered = {candidate.address or candidate.ip for candidate in candidates}
    loopback = sorted(address for address in offered if _is_loopback(address))
    token = _addresses.set(loopback if loopback and len(loopback) == len(offered) else None)
    try:
        yield
    finally:
        _addresses.reset(token)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # a host name


def prepare(transport: Any) -> None:
    """Set a new pymediasoup transport up."""
    transport._probatorConsumerCreated = True


def receivable(device: Any) -> RtpCapabilities:
    """The RTP capabilities to consume with."""
    capabilities = RtpCapabilities.model_validate(device.recvRtpCapabilities.model_dump(exclude_none=True))
    codecs = [
        codec.model_copy(
            update={"rtcp_feedback": tuple(each for each in codec.rtcp_feedback if each.type != "goog-remb")}
        )
        for codec in capabilities.codecs
    ]
    extensions = [each for each in capabilities.header_extensions if each.uri != RtpHeaderExtensionUri.ABS_SEND_TIME]
    return RtpCapabilities(codecs=tuple(codecs), header_extensions=tuple(extensions))


async def stop_receiver(transport: Any, consumer: Any) -> None:
    """Close a pymediasoup consumer, and the receiver and decoder thread behind it, without renegotiating."""
    transport._consumers.pop(consumer.id, None)
    consumer.transportClosed()
    transceiver = transport.handler._mapMidTransceiver[consumer.localId]
    await transceiver.receiver.stop()


async def stop_sender(producer: Any) -> None:
    """Close a pymediasoup producer, and stop what it sends with.

    Its track is stopped, so it must be a proxy (``OutgoingTrack``).
    """
    await producer.close()
    if producer.rtpSender is not None:
        await producer.rtpSender.stop()


async def stream_statistics(transport: Any, stream: Any) -> Any:
    """Aiortc's statistics of a producer or consumer of a pymediasoup transport; ``None``: it is not there any more."""
    transceiver = transport.handler._mapMidTransceiver.get(stream.localId)
    if transceiver is None or stream.closed:
        return None
    is_sent = transport.direction == "send"
    return await (transceiver.sender if is_sent else transceiver.receiver).getStats()


async def close_transport(transport: Any, timeout_s: float) -> None:
    """Close a pymediasoup transport and what it carries, in the one order that works."""
    try:
        async with asyncio.timeout(timeout_s):
            for channel in [*transport._dataProducers.values(), *transport._dataConsumers.values()]:
                await channel.close()
            await transport.close()
    except TimeoutError:
        _log.warning("aiortc did not close in time", action="client_close", timeout_s=timeout_s)
