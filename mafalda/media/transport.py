"""Models of ICE, DTLS, SRTP, SCTP and addresses, in mediasoup's JSON shapes, with the worker's bounds.

ICE passwords and SRTP keys are secrets: ``repr`` and error texts do not contain them, and they must be removed before
such a value is stored.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mafalda.media.bounds import Flag, Port, StreamId, Uint16, Uint32, Value

DtlsRole = Literal["auto", "client", "server"]
FingerprintAlgorithm = Literal["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"]
TransportProtocol = Literal["udp", "tcp"]
SrtpCryptoSuite = Literal["AEAD_AES_256_GCM", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]

SRTP_KEY_BYTES: dict[SrtpCryptoSuite, int] = {
    "AEAD_AES_256_GCM": 44,
    "AEAD_AES_128_GCM": 28,
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
}
"""Length of master key and salt together, by suite, in bytes (RFC 3711, RFC 7714)."""

Host = Annotated[str, StringConstraints(min_length=1, max_length=255)]


def _is_ip_address(value: str) -> str:
    ipaddress.ip_address(value)
    return value


IpAddress = Annotated[str, StringConstraints(min_length=2, max_length=64), AfterValidator(_is_ip_address)]


FINGERPRINT_BYTES: dict[FingerprintAlgorithm, int] = {
    "sha-1": 20,
    "sha-224": 28,
    "sha-256": 32,
    "sha-384": 48,
    "sha-512": 64,
}
"""Length of a certificate's digest by algorithm, in bytes."""


def _fingerprint_lengths(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema how long a value is, by algorithm."""
    schema["allOf"] = [
        {
            "if": {"properties": {"algorithm": {"const": algorithm}}},
            "then": {"properties": {"value": {"minLength": 3 * length - 1, "maxLength": 3 * length - 1}}},
        }
        for algorithm, length in FINGERPRINT_BYTES.items()
    ]


class DtlsFingerprint(Value):
    """The digest of a DTLS certificate (RFC 8122)."""

    model_config = ConfigDict(json_schema_extra=_fingerprint_lengths)

    algorithm: FingerprintAlgorithm
    value: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){19,63}$", max_length=191)] = (
        Field(
            description="Hexadecimal bytes joined by colons, as many as the algorithm gives. Accepted in any case, and "
            "given on in upper case."
        )
    )

    @field_validator("value")
    @classmethod
    def _fits_algorithm(cls, value: str, info: ValidationInfo) -> str:
        """Check the length, and convert to upper case: mediasoup-worker compares digests as text, in upper case."""
        expected, length = FINGERPRINT_BYTES.get(info.data.get("algorithm", "")), (len(value) + 1) // 3
        if expected and length != expected:
            raise ValueError(f"a {info.data['algorithm']} fingerprint has {expected} bytes, this one has {length}")
        return value.upper()


class DtlsParameters(Value):
    """The DTLS side of a WebRTC transport."""

    role: DtlsRole = "auto"
    fingerprints: tuple[DtlsFingerprint, ...] = Field(min_length=1, max_length=16)


class IceParameters(Value):
    """ICE credentials of a WebRTC transport. The password is a secret."""

    username_fragment: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(repr=False)
    ice_lite: Flag | None = None


class IceCandidate(Value):
    """An address under which a WebRTC transport can be reached."""

    foundation: Annotated[str, StringConstraints(max_length=64)]
    priority: Uint32
    ip: Host = Field(description="IP address or host name; the older name of 'address'.")
    address: Host | None = Field(default=None, description="IP address or host name.")
    protocol: TransportProtocol
    port: Port
    type: Literal["host", "srflx", "prflx", "relay"]
    tcp_type: Literal["active", "passive", "so"] | None = None


class SrtpParameters(Value):
    """SRTP keys of one direction of a plain or pipe transport. The key is a secret."""

    crypto_suite: SrtpCryptoSuite
    key_base64: Annotated[str, StringConstraints(max_length=128)] = Field(
        repr=False, description="Master key and salt in base64, as long as the suite wants."
    )

    @model_validator(mode="after")
    def _key_fits_suite(self) -> SrtpParameters:
        expected = SRTP_KEY_BYTES[self.crypto_suite]
        try:
            length = len(base64.b64decode(self.key_base64, validate=True))
        except binascii.Error:
            raise ValueError("the key is not base64") from None
        if length != expected:
            raise ValueError(f"a key for {self.crypto_suite} has {expected} bytes, this one has {length}")
        return self


class TransportTuple(Value):
    """Local and, once known, remote address of a transport."""

    local_ip: Host | None = Field(default=None, description="The older name of 'localAddress'.")
    local_address: Host
    local_port: Port
    remote_ip: Host | None = None
    remote_port: Port | None = None
    protocol: TransportProtocol


class PortRange(Value):
    """Ports that a transport may bind to, both ends included; 0 and 0 is the worker's own range."""

    min: Port
    max: Port

    @model_validator(mode="after")
    def _is_a_range(self) -> PortRange:
        if self.min > self.max:
            raise ValueError("min is greater than max")
        return self


class SocketFlags(Value):
    """Flags of a listening socket."""

    ipv6_only: Flag = Field(default=False, description="No dual stack; for IPv6 addresses.")
    udp_reuse_port: Flag = Field(default=False, description="Share the UDP port with other transports.")


class ListenInfo(Value):
    """Where a transport or a WebRTC server listens, and what it announces."""

    protocol: TransportProtocol = "udp"
    ip: IpAddress
    announced_address: Host | None = Field(
        default=None, description="IP address or host name for the outside, such as behind NAT."
    )
    expose_internal_ip: Flag = Field(
        default=False, description="Offer 'ip' as well as 'announcedAddress' as ICE candidates."
    )
    port: Port | None = Field(default=None, description="None: one of portRange, or of the worker's range.")
    port_range: PortRange | None = Field(default=None, description="When given, 'port' is ignored.")
    flags: SocketFlags | None = None
    send_buffer_size: Uint32 | None = Field(default=None, description="Bytes; None is the system's default.")
    recv_buffer_size: Uint32 | None = Field(default=None, description="Bytes; None is the system's default.")


class NumSctpStreams(Value):
    """Numbers of SCTP streams."""

    os: Uint16 = Field(alias="OS", description="Outgoing streams at first.")
    mis: Uint16 = Field(alias="MIS", description="Greatest number of incoming streams.")


class SctpCapabilities(Value):
    """What an endpoint can do with SCTP."""

    num_streams: NumSctpStreams


class SctpParameters(Value):
    """The SCTP association of a transport."""

    port: Port
    os: Uint16 = Field(alias="OS", description="Outgoing streams at first.")
    mis: Uint16 = Field(alias="MIS", description="Greatest number of incoming streams.")
    max_message_size: Uint32 = Field(description="Bytes; the same as 'maxReceiveMessageSize'.")
    max_send_message_size: Uint32 | None = Field(default=None, description="Bytes.")
    max_receive_message_size: Uint32 | None = Field(default=None, description="Bytes.")
    send_buffer_size: Uint32 | None = Field(default=None, description="Bytes.")
    per_stream_send_queue_limit: Uint32 | None = Field(default=None, description="Bytes.")
    max_receiver_window_buffer_size: Uint32 | None = Field(default=None, description="Bytes.")
    is_data_channel: Flag | None = None


class SctpStreamParameters(Value):
    """How reliable an SCTP stream is. At most one of the two limits, and only when it is not ordered."""

    stream_id: StreamId
    ordered: Flag | None = Field(default=None, description="None: true, unless a limit is given.")
    max_packet_life_time: Uint16 | None = Field(
        default=None, description="Milliseconds after which a message is sent no more."
    )
    max_retransmits: Uint16 | None = Field(default=None, description="How often a message is sent again.")
