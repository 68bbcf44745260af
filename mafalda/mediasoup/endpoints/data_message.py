"""Messages of data channels, and their SCTP payload protocol identifiers (PPIDs)."""

from __future__ import annotations

from typing import NamedTuple

from mafalda.mediasoup.errors import InvalidParameters

# RFC 8831, section 8.
PPID_STRING, PPID_BINARY, PPID_STRING_EMPTY, PPID_BINARY_EMPTY = 51, 53, 56, 57


class DataMessage(NamedTuple):
    """A message as it arrived. An empty one arrives as one byte with the PPID of empty messages."""

    data: bytes
    ppid: int

    @property
    def text(self) -> str | None:
        """The text, if it is a text message."""
        if self.ppid == PPID_STRING_EMPTY:
            return ""
        return self.data.decode(errors="replace") if self.ppid == PPID_STRING else None


def encode_message(message: str | bytes, ppid: int | None) -> tuple[bytes, int]:
    """Bytes and PPID of a message; SCTP cannot send empty ones, so those become one byte.

    Raises:
        InvalidParameters: It is neither text nor bytes.
    """
    if isinstance(message, str):
        default, data = (PPID_STRING if message else PPID_STRING_EMPTY), message.encode()
    elif isinstance(message, bytes | bytearray | memoryview):
        data = bytes(message)
        default = PPID_BINARY if data else PPID_BINARY_EMPTY
    else:
        raise InvalidParameters(f"a message is text or bytes, not {type(message).__name__}")
    chosen = default if ppid is None else ppid
    if chosen == PPID_STRING_EMPTY:
        data = b" "
    elif chosen == PPID_BINARY_EMPTY:
        data = b"\0"
    return data, chosen
