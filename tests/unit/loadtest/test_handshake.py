"""ICE and DTLS against a server of OpenSSL's own, without a network."""

from __future__ import annotations

from contextlib import suppress

import pylibsrtp
import pytest
from aioice import stun
from OpenSSL import SSL

from mafalda.errors import Broken
from mafalda.loadtest.handshake import Handshake
from mafalda.loadtest.identity import Identity, new_identity
from mafalda.media.transport import IceParameters

ICE = IceParameters(username_fragment="server", password="a-password-of-22-chars", ice_lite=True)
SUITE = b"SRTP_AEAD_AES_128_GCM"


class Server:
    """An ICE-lite agent and a DTLS server."""

    def __init__(self, identity: Identity, *, password: str = ICE.password) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_tlsext_use_srtp(SUITE)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        self.dtls = SSL.Connection(context)
        self.dtls.set_accept_state()
        self.requests: list[stun.Message] = []
        self._password = password

    def take(self, datagram: bytes) -> list[bytes]:
        if datagram[0] < 4:
            self.requests.append(stun.parse_message(datagram))
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, self.requests[-1].transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 5000)
            answer.add_message_integrity(self._password.encode())
            return [bytes(answer)]
        self.dtls.bio_write(datagram)
        with suppress(SSL.WantReadError):
            self.dtls.do_handshake()
        try:
            return [self.dtls.bio_read(65536)]
        except SSL.WantReadError:
            return []


def run(handshake: Handshake, server: Server) -> None:
    """Carry datagrams to and fro until both are silent."""
    to_server = handshake.repeat()
    while to_server:
        answers = [answer for datagram in to_server for answer in server.take(datagram)]
        to_server = [datagram for answer in answers for datagram in handshake.take(answer)]


@pytest.fixture(scope="module")
def identity() -> Identity:
    return new_identity()


def handshake_with(identity: Identity, announced: Identity) -> Handshake:
    return Handshake(ICE, announced.dtls_parameters.fingerprints, identity)


def test_both_sides_have_the_same_keys(identity: Identity) -> None:
    server, handshake = Server(new := new_identity()), handshake_with(identity, new)
    run(handshake, server)
    assert handshake.sessions is not None
    keys = server.dtls.export_keying_material(b"EXTRACTOR-dtls_srtp", 56)
    own = pylibsrtp.Session(
        pylibsrtp.Policy(
            key=keys[16:32] + keys[44:56],
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        )
    )
    packet = bytes([0x80, 111]) + bytes(10) + b"sound"
    assert handshake.sessions.inbound.unprotect(own.protect(packet)) == packet
    peer = server.dtls.get_peer_certificate()
    assert peer is not None
    assert peer.to_cryptography() == identity.certificate


def test_the_check_nominates_with_the_servers_credentials(identity: Identity) -> None:
    server, handshake = Server(new := new_identity()), handshake_with(identity, new)
    run(handshake, server)
    (request,) = server.requests
    assert request.attributes["USERNAME"].startswith("server:")
    assert "USE-CANDIDATE" in request.attributes
    assert request.check_message_integrity(ICE.password.encode())


def test_what_was_lost_is_sent_again(identity: Identity) -> None:
    server, handshake = Server(new := new_identity()), handshake_with(identity, new)
    handshake.repeat()  # lost
    run(handshake, server)
    assert handshake.sessions is not None
    assert handshake.repeat() == []


def test_a_server_with_another_certificate_is_refused(identity: Identity) -> None:
    server, handshake = Server(new_identity()), handshake_with(identity, announced=new_identity())
    with pytest.raises(Broken, match="not the one that it announced"):
        run(handshake, server)
    assert handshake.sessions is None


def test_a_server_without_the_password_is_refused(identity: Identity) -> None:
    server = Server(new := new_identity(), password="another-password-of-26-chars")
    with pytest.raises(Broken, match="integrity"):
        run(handshake_with(identity, new), server)
