"""A cable between two network namespaces: two TAP devices, and a thread that carries frames late and drops some."""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_FRAME_BYTES = 65536
_UDP_PROTOCOL_AT, _UDP = 23, 17  # in an Ethernet frame of IPv4


class Cable:
    """Carries frames until it is closed.

    Args:
        ends: The file descriptors of the two TAP devices.
        delay_s: Of each frame.
        loss_ratio: Probability with which a UDP packet is dropped; other packets never are.
    """

    def __init__(self, ends: tuple[int, int], delay_s: float, loss_ratio: float) -> None:
        self.carried = 0
        self.dropped = 0
        self._ends = ends
        self._delay_s = delay_s
        self._loss_ratio = loss_ratio
        self._random = random.Random(1)
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="cable")
        self._thread.start()

    def close(self) -> None:
        """Stop carrying."""
        os.write(self._stop_writer, b"x")
        self._thread.join()
        for descriptor in (*self._ends, self._stop_reader, self._stop_writer):
            os.close(descriptor)

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        others = {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        number = 0
        while True:
            timeout_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            readable, _, _ = select.select([*self._ends, self._stop_reader], [], [], timeout_s)
            if self._stop_reader in readable:
                return
            for descriptor in readable:
                frame = os.read(descriptor, _FRAME_BYTES)
                if self._is_lost(frame):
                    self.dropped += 1
                    continue
                number += 1
                heapq.heappush(waiting, (time.monotonic() + self._delay_s, number, others[descriptor], frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, descriptor, frame = heapq.heappop(waiting)
                with suppress(OSError):  # the other end is not up yet
                    os.write(descriptor, frame)
                    self.carried += 1

    def _is_lost(self, frame: bytes) -> bool:
        is_udp = frame[12:14] == b"\x08\x00" and frame[_UDP_PROTOCOL_AT] == _UDP
        return is_udp and self._random.random() < self._loss_ratio


@contextmanager
def open_cable(one: tuple[str, str], other: tuple[str, str], delay_s: float, loss_ratio: float) -> Iterator[Cable]:
    """A cable between two devices that it makes.

    Args:
        one: The namespace and the name of one device.
        other: Of the other one.
        delay_s: Each way, in seconds.
        loss_ratio: Of UDP packets.
    """
    cable = Cable((_tap(*one), _tap(*other)), delay_s, loss_ratio)
    try:
        yield cable
    finally:
        cable.close()


def _tap(namespace: str, device: str) -> int:
    """Make a TAP device in a namespace, in a thread of its own, which alone enters it."""
    made: list[int] = []

    def enter() -> None:
        descriptor = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                return
            tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TAP | _IFF_NO_PI))
            made.append(tap)
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter, name=f"make {device} in {namespace}")
    thread.start()
    thread.join()
    if not made:
        raise RuntimeError(f"cannot make {device} in the network namespace {namespace}")
    return made[0]
