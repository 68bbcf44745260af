"""The two pipes to the library: length-prefixed payloads in and out, read and written by the event loop.

Payloads are decoded and encoded in ``mafalda.dropin.virtual.library_channel``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from mafalda.mediasoup.channel.framing import FrameReader, frame
from mafalda.mediasoup.errors import FramingError

_CHUNK_BYTES = 256 * 1024
#: A library that does not read so much is dead.
MAX_UNSENT_BYTES = 256 * 1024 * 1024


class Pipes:
    """Reads from one file descriptor and writes to the other.

    Args:
        read_fd: Where the library writes.
        write_fd: Where it reads.
        on_payload: Given each payload, in order.
        on_end: Called once when the library has gone (0), or its bytes cannot be understood (1); and why.
    """

    def __init__(
        self, read_fd: int, write_fd: int, on_payload: Callable[[bytes], None], on_end: Callable[[int, str], None]
    ) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._on_payload, self._on_end = on_payload, on_end
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Begin to read."""
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self._loop.add_reader(self._read_fd, self._read)

    def close(self) -> None:
        """Read and write no more; what was not written yet is tried once."""
        if not self._closed:
            self._write()
            self._end()

    def send(self, payload: bytes) -> None:
        """Write a payload, now or as soon as the library reads."""
        if self._closed:
            return
        waiting = bool(self._unsent)
        self._unsent += frame(payload)
        if not waiting:
            self._write()
        elif len(self._unsent) > MAX_UNSENT_BYTES:
            self._fail(1, "the library does not read")

    def _read(self) -> None:
        try:
            data = os.read(self._read_fd, _CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(0, str(error))
            return
        if not data:
            self._fail(0, "channel remotely closed")
            return
        try:
            for payload in self._reader.feed(data):
                self._on_payload(payload)
        except FramingError as error:
            self._fail(1, f"not understood: {error}")

    def _write(self) -> None:
        try:
            while self._unsent:
                sent = os.write(self._write_fd, memoryview(self._unsent)[:_CHUNK_BYTES])
                del self._unsent[:sent]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._write_fd, self._write)
            return
        except OSError as error:
            self._fail(0, str(error))
            return
        self._loop.remove_writer(self._write_fd)

    def _fail(self, code: int, reason: str) -> None:
        if not self._closed:
            self._end()
            self._on_end(code, reason)

    def _end(self) -> None:
        self._closed = True
        self._loop.remove_reader(self._read_fd)
        self._loop.remove_writer(self._write_fd)
