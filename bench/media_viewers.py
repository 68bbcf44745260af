"""WebRTC endpoints that only watch: ICE, the DTLS handshake, and then a socket that takes what comes.

What does not belong here: decrypting, and everything that a browser does after the handshake.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import Callable
from functools import cache

from aioice import stun
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from bench.media_streams import Suite
from mafalda.mediasoup import WebRtcTransport

_TRY_S, _TRIES = 0.5, 20
_MTU = 1200


async def watch(transport: WebRtcTransport, endpoint: socket.socket, suite: Suite) -> None:
    """Connect a transport to a viewer's socket.

    Args:
        transport: Not connected yet, with a UDP candidate.
        endpoint: Where its media will go.
        suite: The SRTP crypto suite that the viewer asks for.

    Raises:
        TimeoutError: the transport did not answer.
    """
    certificate, key = _identity()
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    await transport.connect(
        dtls_parameters={"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": fingerprint}]}
    )
    candidate = next(it for it in transport.ice_candidates if it.protocol == "udp")
    address = (candidate.ip, candidate.port)
    await _exchange(endpoint, address, _binding_request(transport), lambda answer: answer[0] < 2)
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_tlsext_use_srtp(f"SRTP_{suite}".encode())
    context.use_certificate(certificate)
    context.use_privatekey(key)
    dtls = SSL.Connection(context)
    dtls.set_ciphertext_mtu(_MTU)
    dtls.set_connect_state()
    while not _handshake(dtls):
        await _exchange(endpoint, address, _outgoing(dtls), lambda answer: _take(dtls, answer))
    if rest := _outgoing(dtls):
        endpoint.sendto(rest, address)


def _handshake(dtls: SSL.Connection) -> bool:
    """Whether it is done."""
    try:
        dtls.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def _outgoing(dtls: SSL.Connection) -> bytes:
    try:
        return dtls.bio_read(65536)
    except SSL.WantReadError:
        return b""


def _take(dtls: SSL.Connection, answer: bytes) -> bool:
    if not 20 <= answer[0] <= 63:  # RFC 7983: not DTLS
        return False
    dtls.bio_write(answer)
    return True


async def _exchange(
    endpoint: socket.socket, address: tuple[str, int], packet: bytes, wanted: Callable[[bytes], bool]
) -> None:
    """Send a packet until an answer comes that is wanted."""
    loop = asyncio.get_running_loop()
    for _ in range(_TRIES):
        if packet:
            endpoint.sendto(packet, address)
        try:
            async with asyncio.timeout(_TRY_S):
                while not wanted(await loop.sock_recv(endpoint, 65536)):
                    pass
        except TimeoutError:
            continue
        return
    raise TimeoutError("the worker does not answer")


def _binding_request(transport: WebRtcTransport) -> bytes:
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    ice = transport.ice_parameters
    request.attributes["USERNAME"] = f"{ice.username_fragment}:viewer"
    request.attributes["PRIORITY"] = 1
    request.attributes["ICE-CONTROLLING"] = 1
    request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity(ice.password.encode())
    return bytes(request)


@cache
def _identity() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """One certificate for all viewers."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "viewer")])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate, key
