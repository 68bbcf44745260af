"""ICE and DTLS of one endpoint towards an ICE-lite server, without I/O: datagrams in, datagrams out.

The endpoint is the controlling ICE agent and nominates the server's candidate in its first check. Its DTLS role is
client. What does not belong here: sockets and timers, and RTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import pylibsrtp
from aioice import stun
from OpenSSL import SSL

from mafalda.errors import Broken
from mafalda.loadtest.identity import Identity
from mafalda.media.transport import DtlsFingerprint, IceParameters

_MTU_BYTES = 1200
_PRIORITY = 0x7EFF_FFFF  # of a host candidate (RFC 8445, 5.1.2)
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"  # RFC 5764, 4.2


class _Suite(NamedTuple):
    key_bytes: int
    salt_bytes: int
    profile: int


_SUITES = {
    b"SRTP_AEAD_AES_256_GCM": _Suite(32, 12, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM),
    b"SRTP_AEAD_AES_128_GCM": _Suite(16, 12, pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM),
    b"SRTP_AES128_CM_SHA1_80": _Suite(16, 14, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80),
}


@dataclass(frozen=True, slots=True)
class SrtpSessions:
    """The two directions of an endpoint's SRTP."""

    inbound: pylibsrtp.Session
    outbound: pylibsrtp.Session


class Handshake:
    """The state: checking (no answer to the ICE check yet), handshaking, done (``sessions`` is set).

    Args:
        ice: The server's ICE credentials.
        fingerprints: The digests that the server's certificate must have one of.
        identity: The endpoint's certificate.
        suites: SRTP suites to offer, by OpenSSL's names; the default are the three that browsers offer.
    """

    def __init__(
        self,
        ice: IceParameters,
        fingerprints: Iterable[DtlsFingerprint],
        identity: Identity,
        suites: Iterable[bytes] = tuple(_SUITES),
    ) -> None:
        self.sessions: SrtpSessions | None = None
        self._ice = ice
        self._fingerprints = {(each.algorithm, each.value.upper()) for each in fingerprints}
        self._is_checked = False
        self._dtls = SSL.Connection(_context(identity, b":".join(suites)))
        self._dtls.set_ciphertext_mtu(_MTU_BYTES)
        self._dtls.set_connect_state()

    def binding_request(self) -> bytes:
        """An ICE check with nomination; also what keeps the server's consent (RFC 7675) when it is sent again later."""
        request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._ice.username_fragment}:load"
        request.attributes["PRIORITY"] = _PRIORITY
        request.attributes["ICE-CONTROLLING"] = 1
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._ice.password.encode())
        request.add_fingerprint()
        return bytes(request)

    def repeat(self) -> list[bytes]:
        """What to send at the start, and again when nothing came for a while."""
        if self.sessions is not None:
            return []
        if not self._is_checked:
            return [self.binding_request()]
        self._dtls.DTLSv1_handle_timeout()
        return self._outgoing()

    def take(self, datagram: bytes) -> list[bytes]:
        """Take a datagram that is STUN or DTLS (RFC 7983); what is neither is passed over.

        Returns:
            What to send now.

        Raises:
            Broken: The server refuses the check or the handshake, or it has another certificate than it announced.
        """
        first = datagram[0] if datagram else 255
        if first < 4 and not self._is_checked:
            self._take_check(datagram)
            return self._advance()
        if 20 <= first < 64 and self.sessions is None:
            self._dtls.bio_write(datagram)
            return self._advance()
        return []

    def _take_check(self, datagram: bytes) -> None:
        try:
            answer = stun.parse_message(datagram)
        except ValueError as error:
            raise Broken("the answer to the ICE check is not valid", reason=str(error)) from None
        if answer.message_class != stun.Class.RESPONSE:
            raise Broken("the ICE check was refused", error=str(answer.error_code))
        if not answer.check_message_integrity(self._ice.password.encode()):
            raise Broken("the answer to the ICE check is not the server's: its integrity does not hold")
        self._is_checked = True

    def _advance(self) -> list[bytes]:
        try:
            self._dtls.do_handshake()
        except SSL.WantReadError:
            return self._outgoing()
        except SSL.Error as error:
            raise Broken("the DTLS handshake failed", reason=str(error)) from None
        self._check_certificate()
        self.sessions = self._export_sessions()
        return self._outgoing()

    def _outgoing(self) -> list[bytes]:
        """One datagram for each record flight that OpenSSL wrote."""
        datagrams = []
        while True:
            try:
                datagrams.append(self._dtls.bio_read(65536))
            except SSL.WantReadError:
                return datagrams

    def _check_certificate(self) -> None:
        certificate = self._dtls.get_peer_certificate()
        known = {algorithm for algorithm, _ in self._fingerprints}
        digests = (
            {(name, certificate.digest(name.replace("-", "")).decode()) for name in known} if certificate else set()
        )
        if not digests & self._fingerprints:
            raise Broken("the server's certificate is not the one that it announced")

    def _export_sessions(self) -> SrtpSessions:
        name = self._dtls.get_selected_srtp_profile()
        if name not in _SUITES:
            raise Broken("the server chose no SRTP suite that was offered", suite=name.decode())
        key, salt, profile = _SUITES[name]
        exported = self._dtls.export_keying_material(_EXPORTER_LABEL, 2 * (key + salt))
        own = exported[:key] + exported[2 * key : 2 * key + salt]
        servers = exported[key : 2 * key] + exported[2 * key + salt :]

        def session(master: bytes, direction: int) -> pylibsrtp.Session:
            return pylibsrtp.Session(pylibsrtp.Policy(key=master, ssrc_type=direction, srtp_profile=profile))

        return SrtpSessions(
            inbound=session(servers, pylibsrtp.Policy.SSRC_ANY_INBOUND),
            outbound=session(own, pylibsrtp.Policy.SSRC_ANY_OUTBOUND),
        )


@cache
def _context(identity: Identity, suites: bytes) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_tlsext_use_srtp(suites)
    # Self-signed certificates are the rule here: the announced digest is compared instead.
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    return context
