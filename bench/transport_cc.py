"""A receiver's feedback: when each packet arrived (transport-wide-cc), loss and round-trip time (receiver reports).

Sources: draft-holmer-rmcat-transport-wide-cc-extensions-01, RFC 3550 (6.4), RFC 8285 (4.2). What does not belong here:
sockets and clocks (``narrow_viewer``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_TICK_US = 250
_REFERENCE_US = 64_000
_VECTOR = 7  # two-bit symbols of one status vector chunk
_NOT_RECEIVED, _SMALL_DELTA, _LARGE_DELTA = 0, 1, 2
_ONE_BYTE_HEADERS = 0xBEDE


def transport_sequence(packet: bytes, extension_id: int) -> int | None:
    """The transport-wide sequence number of an RTP packet; ``None`` if it has none.

    Args:
        packet: With one-byte header extensions.
        extension_id: That of transport-wide-cc-01.
    """
    start = 12 + 4 * (packet[0] & 0x0F)
    if not packet[0] & 0x10 or struct.unpack_from(">H", packet, start)[0] != _ONE_BYTE_HEADERS:
        return None
    end = start + 4 + 4 * int(struct.unpack_from(">H", packet, start + 2)[0])
    position = start + 4
    while position < end:
        id, length = packet[position] >> 4, (packet[position] & 0x0F) + 1
        if id == 0:  # padding
            position += 1
        elif id == extension_id:
            return int(struct.unpack_from(">H", packet, position + 1)[0])
        else:
            position += 1 + length
    return None


def feedback(arrivals_us: Mapping[int, int], count: int, *, ssrc: int, media_ssrc: int) -> bytes:
    """One RTCP packet that tells when packets arrived.

    Args:
        arrivals_us: Microseconds of a monotonic clock by unwrapped sequence number, at least one; numbers between the
            first and the last that are missing were not received.
        count: How many such packets were sent before.
        ssrc: The receiver's.
        media_ssrc: One of the sender's.
    """
    first, last = min(arrivals_us), max(arrivals_us)
    reference = arrivals_us[first] // _REFERENCE_US
    before_us = reference * _REFERENCE_US
    symbols: list[int] = []
    deltas = b""
    for number in range(first, last + 1):
        if (arrived_us := arrivals_us.get(number)) is None:
            symbols.append(_NOT_RECEIVED)
            continue
        ticks = (arrived_us - before_us) // _TICK_US
        before_us += ticks * _TICK_US
        is_small = 0 <= ticks <= 0xFF
        symbols.append(_SMALL_DELTA if is_small else _LARGE_DELTA)
        deltas += struct.pack(">B", ticks) if is_small else struct.pack(">h", max(-0x8000, min(ticks, 0x7FFF)))
    body = struct.pack(">HHI", first & 0xFFFF, len(symbols), (reference & 0xFFFFFF) << 8 | count & 0xFF)
    body += b"".join(_status_vector(symbols[at : at + _VECTOR]) for at in range(0, len(symbols), _VECTOR)) + deltas
    body += bytes(-len(body) % 4)
    return struct.pack(">BBHII", 0x80 | 15, 205, 2 + len(body) // 4, ssrc, media_ssrc) + body


def _status_vector(symbols: Sequence[int]) -> bytes:
    value = 0b11
    for symbol in [*symbols, *([_NOT_RECEIVED] * (_VECTOR - len(symbols)))]:
        value = value << 2 | symbol
    return struct.pack(">H", value)


def receiver_report(
    *, ssrc: int, media_ssrc: int, highest: int, lost_ratio: float, last_sr: int, delay_s: float
) -> bytes:
    """A receiver report with one block.

    Args:
        ssrc: The receiver's.
        media_ssrc: Of the stream that it is about.
        highest: The extended highest sequence number received.
        lost_ratio: Of packets since the last report.
        last_sr: The middle 32 bits of the last sender report's NTP time; 0: none came.
        delay_s: Seconds since then.
    """
    fraction = min(255, int(lost_ratio * 256)) << 24
    block = struct.pack(">IIIIII", media_ssrc, fraction, highest & 0xFFFFFFFF, 0, last_sr, int(delay_s * 65536))
    return struct.pack(">BBHI", 0x81, 201, 7, ssrc) + block


def sender_report(*, ssrc: int, now_s: float, timestamp: int) -> bytes:
    """A sender report without blocks.

    Args:
        ssrc: Of the stream.
        now_s: Unix time.
        timestamp: RTP's, of that moment.
    """
    ntp = int((now_s + 2_208_988_800) * 2**32)
    return struct.pack(">BBHIQIII", 0x80, 200, 6, ssrc, ntp & 0xFFFFFFFFFFFFFFFF, timestamp & 0xFFFFFFFF, 0, 0)
