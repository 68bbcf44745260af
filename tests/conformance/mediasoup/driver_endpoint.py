"""A WebRTC endpoint for the driver's tests: aiortc's ICE, DTLS and SCTP, without SDP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioice.ice
import pytest
from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)

from mafalda.media.rtp import IceParameters
from mafalda.mediasoup import WebRtcTransport


def allow_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aioice leaves 127.0.0.1 out, which is where the worker listens in these tests."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class Endpoint:
    """The far end of a WebRtcTransport: ICE controlling, DTLS client."""

    def __init__(self, server: WebRtcTransport) -> None:
        self.server = server
        self.ice = RTCIceTransport(RTCIceGatherer(iceServers=[]))
        self.dtls = RTCDtlsTransport(self.ice, [RTCCertificate.generateCertificate()])
        self.sctp = RTCSctpTransport(self.dtls)

    async def connect(self) -> None:
        """Go through ICE and DTLS, and with SCTP start the association."""
        await self.ice.iceGatherer.gather()
        (fingerprint,) = (item for item in self.dtls.getLocalParameters().fingerprints if item.algorithm == "sha-256")
        await self.server.connect(
            dtls_parameters={
                "role": "client",
                "fingerprints": [{"algorithm": fingerprint.algorithm, "value": fingerprint.value}],
            }
        )
        for candidate in self.server.ice_candidates:
            await self.ice.addRemoteCandidate(
                RTCIceCandidate(
                    component=1,
                    foundation=candidate.foundation,
                    ip=candidate.ip,
                    port=candidate.port,
                    priority=candidate.priority,
                    protocol=candidate.protocol,
                    type=candidate.type,
                )
            )
        self.ice._connection.ice_controlling = True
        await self.ice.start(_credentials(self.server.ice_parameters))
        fingerprints = [
            RTCDtlsFingerprint(algorithm=item.algorithm, value=item.value)
            for item in self.server.dtls_parameters.fingerprints
            if item.algorithm == "sha-256"
        ]
        self.dtls._set_role("client")
        await self.dtls.start(RTCDtlsParameters(fingerprints=fingerprints, role="server"))
        if self.server.sctp_parameters is not None:
            await self.sctp.start(RTCSctpCapabilities(maxMessageSize=262144), self.server.sctp_parameters.port)

    async def close(self) -> None:
        """Stop all of it."""
        await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()


@asynccontextmanager
async def connected(server: WebRtcTransport) -> AsyncIterator[Endpoint]:
    """An endpoint that has connected to ``server``."""
    endpoint = Endpoint(server)
    try:
        async with asyncio.timeout(15):
            await endpoint.connect()
        yield endpoint
    finally:
        await endpoint.close()


def _credentials(parameters: IceParameters) -> RTCIceParameters:
    return RTCIceParameters(usernameFragment=parameters.username_fragment, password=parameters.password, iceLite=True)
