"""WebRTC endpoints that only watch: ICE, the DTLS handshake, and then a socket that takes what comes.

What does not belong here: the handshake (``mafalda.loadtest``), decrypting, and what a browser does afterwards.
"""

from __future__ import annotations

import asyncio
import socket
from functools import cache

from bench.media_streams import Suite
from mafalda.loadtest.handshake import Handshake
from mafalda.loadtest.identity import Identity, new_identity
from mafalda.mediasoup import WebRtcTransport

_TRY_S, _TRIES = 0.5, 20


async def watch(transport: WebRtcTransport, endpoint: socket.socket, suite: Suite) -> None:
    """Connect a transport to a viewer's socket.

    Args:
        transport: Not connected yet, with a UDP candidate.
        endpoint: Where its media will go.
        suite: The SRTP crypto suite that the viewer asks for.

    Raises:
        TimeoutError: the transport did not answer.
    """
    await transport.connect(dtls_parameters=_identity().dtls_parameters)
    candidate = next(it for it in transport.ice_candidates if it.protocol == "udp")
    address = (candidate.ip, candidate.port)
    fingerprints = transport.dtls_parameters.fingerprints
    handshake = Handshake(transport.ice_parameters, fingerprints, _identity(), suites=(f"SRTP_{suite}".encode(),))
    loop = asyncio.get_running_loop()
    for _ in range(_TRIES):
        for datagram in handshake.repeat():
            endpoint.sendto(datagram, address)
        try:
            async with asyncio.timeout(_TRY_S):
                while handshake.sessions is None:
                    for datagram in handshake.take(await loop.sock_recv(endpoint, 65536)):
                        endpoint.sendto(datagram, address)
        except TimeoutError:
            continue
        return
    raise TimeoutError("the worker does not answer")


@cache
def _identity() -> Identity:
    """One certificate for all viewers."""
    return new_identity()
