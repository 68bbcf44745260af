"""Reads many UDP sockets, many packets with one system call, into one buffer that numpy looks at.

``recvmmsg(2)`` by ctypes: Python's own ``recvmsg`` makes objects of each packet and its ancillary data, which is most
of its cost. The kernel stamps each packet, so that how late it is read is no part of what is measured.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

_CAPACITY = 2048
_PER_CALL = 64
_PACKET_BYTES = 2048
_CONTROL_BYTES = 64
_ADDRESS = 64  # bytes of one ``struct mmsghdr`` on a 64-bit Linux
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _SO_MEMINFO = 35, 33, 55
_MEMINFO_DROPS = 8
_MMSGHDR = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "len"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": _ADDRESS,
    }
)
_IOVEC = np.dtype([("base", "u8"), ("len", "u8")])
#: Errors of a UDP socket after which the next packet may pass: a worker that died, a link that is down, full buffers.
TRANSIENT_ERRORS = frozenset(
    (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOBUFS, errno.EPERM)
)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets of one read. Arrays are views that the next read overwrites.

    Attributes:
        sources: Of each packet the number under which its socket was added.
        data: One row a packet; only its first ``lengths`` bytes are the packet's.
        lengths: In bytes.
        arrivals_ns: When the kernel took it from the network, in nanoseconds since the epoch.
        is_partial: Whether more may have arrived already than was read.
    """

    sources: Array
    data: Array
    lengths: Array
    arrivals_ns: Array
    is_partial: bool


def open_socket(address: tuple[str, int], receive_buffer_bytes: int) -> socket.socket:
    """A UDP socket that is connected to a server, stamps packets, and has as large a buffer as the system allows."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except PermissionError:  # beyond net.core.rmem_max only with CAP_NET_ADMIN
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.connect(address)
    return opened


def drops(opened: socket.socket) -> int:
    """How many packets the kernel dropped because this socket's buffer was full."""
    info = opened.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
    return int(struct.unpack_from("=I", info, 4 * _MEMINFO_DROPS)[0])


class BatchReader:
    """Add sockets, wait until ``fileno`` is readable, ``read``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._numbers: dict[int, int] = {}
        self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
        self._recvmmsg.restype = ctypes.c_int
        self._data = np.zeros((_CAPACITY, _PACKET_BYTES), np.uint8)
        self._control = np.zeros((_CAPACITY, _CONTROL_BYTES), np.uint8)
        self._stamps = self._control[:, 16:32].view(np.int64)  # struct timespec behind struct cmsghdr
        self._vectors = np.zeros(_CAPACITY, _IOVEC)
        self._headers = np.zeros(_CAPACITY, _MMSGHDR)
        rows = np.arange(_CAPACITY, dtype=np.uint64)
        self._vectors["base"] = self._data.ctypes.data + rows * np.uint64(_PACKET_BYTES)
        self._vectors["len"] = _PACKET_BYTES
        self._headers["iov"] = self._vectors.ctypes.data + rows * np.uint64(_IOVEC.itemsize)
        self._headers["iovlen"] = 1
        self._headers["control"] = self._control.ctypes.data + rows * np.uint64(_CONTROL_BYTES)
        self._headers["controllen"] = _CONTROL_BYTES
        self._base = int(self._headers.ctypes.data)

    def close(self) -> None:
        """Stop; the sockets stay open."""
        self._epoll.close()

    def fileno(self) -> int:
        """Readable while a socket is."""
        return self._epoll.fileno()

    def add(self, opened: socket.socket, number: int) -> None:
        """Read a socket from now on, under this number."""
        self._numbers[opened.fileno()] = number
        self._epoll.register(opened.fileno(), select.EPOLLIN)

    def remove(self, opened: socket.socket) -> None:
        """Read it no more; before it is closed."""
        if self._numbers.pop(opened.fileno(), None) is not None:
            self._epoll.unregister(opened.fileno())

    def read(self) -> Batch | None:
        """What has arrived, up to the buffer's size; ``None``: nothing.

        Raises:
            OSError: A socket cannot be read, for another reason than a port that nobody listens on any more.
        """
        count, is_partial = 0, False
        sources: list[int] = []
        for descriptor, _ in self._epoll.poll(0, _CAPACITY):
            wanted = min(_PER_CALL, _CAPACITY - count)
            if wanted <= 0:
                is_partial = True  # level-triggered: the rest is reported again
                break
            got = self._recvmmsg(descriptor, self._base + count * _ADDRESS, wanted, socket.MSG_DONTWAIT, None)
            if got < 0:
                code = ctypes.get_errno()
                if code not in TRANSIENT_ERRORS:
                    raise OSError(code, os.strerror(code))
                continue
            is_partial |= got == wanted
            sources.extend([self._numbers[descriptor]] * got)
            count += got
        if not count:
            return None
        self._headers["controllen"][:count] = _CONTROL_BYTES
        stamps = self._stamps[:count]
        return Batch(
            np.array(sources, np.int64),
            self._data[:count],
            self._headers["len"][:count].astype(np.int64),
            stamps[:, 0] * 1_000_000_000 + stamps[:, 1],
            is_partial or count == _CAPACITY,
        )
