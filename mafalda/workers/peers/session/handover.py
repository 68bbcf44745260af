"""The end of a session whose peer has another place: it goes on forwarding until the client has moved."""

from __future__ import annotations

import asyncio

from mafalda.contract.messages.events import DataProducerClosed, Event, ProducerClosed
from mafalda.mediasoup import WebRtcTransport
from mafalda.workers.peers.session.objects import PeerObjects
from mafalda.workers.peers.session.placement import PeerPlacement


async def wait_until_moved(objects: PeerObjects, ended: asyncio.Event, timeout_s: float) -> None:
    """Return when the client has closed its transports here, when ``ended`` is set, or after ``timeout_s`` seconds.

    A client that has moved closes the DTLS of its former transports. One that was never connected forwards nothing.
    """
    transports = [it for it in objects.transports.values() if isinstance(it, WebRtcTransport)]

    def check(_: str) -> None:
        if all(it.closed or it.dtls_state not in ("connecting", "connected") for it in transports):
            ended.set()

    for transport in transports:
        transport.on(transport.DTLS_STATE_CHANGE, check)
        transport.on(transport.CLOSE, check)
    check("")
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return


def producers_left(placement: PeerPlacement, objects: PeerObjects) -> list[Event]:
    """Room events for the producers that are still here: they close with the session."""
    who = {"peer": placement.peer, "generation": placement.generation}
    return [ProducerClosed(producer=id, reason="peer-moved", **who) for id in objects.producers] + [
        DataProducerClosed(data_producer=id, reason="peer-moved", **who) for id in objects.data_producers
    ]
