"""The channel's framing, without I/O: a 4-byte little-endian length, then that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mafalda.mediasoup.errors import FramingError, InvalidParameters

# mediasoup's limit for one message, its length prefix included, in bytes.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_PREFIX = struct.Struct("<I")


def frame(payload: bytes) -> bytes:
    """The payload with its length in front.

    Raises:
        InvalidParameters: It is larger than the worker takes.
    """
    if len(payload) + _PREFIX.size > MAX_MESSAGE_BYTES:
        raise InvalidParameters(
            "message is too large for the worker", size_bytes=len(payload), limit_bytes=MAX_MESSAGE_BYTES
        )
    return _PREFIX.pack(len(payload)) + payload


class FrameReader:
    """Splits a byte stream into payloads, in whatever pieces the bytes arrive.

    After a ``FramingError`` it is not known where the next frame begins: the reader refuses everything from then on.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken = False

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; yield the payloads that are complete with them, in order.

        Raises:
            FramingError: A length that no message can have.
        """
        if self._broken:
            raise FramingError("the stream lost its framing before")
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _PREFIX.size:
                (length,) = _PREFIX.unpack_from(self._buffer, at)
                if not 0 < length <= MAX_MESSAGE_BYTES - _PREFIX.size:
                    self._broken = True
                    raise FramingError("impossible message length", size_bytes=length, limit_bytes=MAX_MESSAGE_BYTES)
                end = at + _PREFIX.size + length
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[at + _PREFIX.size : end])
                at = end
                yield payload
        finally:
            del self._buffer[:at]
