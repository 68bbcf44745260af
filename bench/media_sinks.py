"""Where forwarded media goes: sockets that nobody reads, some that take the time, in this or another network namespace.

What does not belong here: what is sent there (``media_load``).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SO_TIMESTAMPNS = 35
_CLONE_NEWNET = 0x40000000
_LISTENER_BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses of the two sides of a link, and how to open a socket on the far side.

    Attributes:
        near: Where workers listen.
        far: Where viewers are.
        open_far: Calls a function inside the far side's network namespace.
        namespace: The far side's; ``None``: both are here.
    """

    near: str
    far: str
    open_far: Callable[[Callable[[], socket.socket]], socket.socket]
    namespace: str | None = None

    @contextmanager
    def far_program(self, program: Path) -> Iterator[Path]:
        """A program that runs ``program`` on the far side."""
        if self.namespace is None:
            yield program
            return
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / program.name
            script.write_text(f'#!/bin/sh\nexec ip netns exec {self.namespace} {program} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
            yield script


LOOPBACK = Network("127.0.0.1", "127.0.0.1", lambda make: make())


def unread_socket(network: Network) -> socket.socket:
    """A bound socket with the kernel's least buffer: the kernel drops what comes."""
    opened = network.open_far(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    opened.bind((network.far, 0))
    return opened


def timed_socket(network: Network) -> socket.socket:
    """A bound socket that does not block and tells when the kernel received each packet (``arrival_ns``)."""
    opened = network.open_far(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LISTENER_BUFFER_BYTES)
    opened.bind((network.far, 0))
    opened.setblocking(False)
    return opened


def receive(endpoint: socket.socket) -> Iterator[tuple[bytes, int]]:
    """Packets that wait in a ``timed_socket``, and when the kernel received each, in nanoseconds of Unix time."""
    while True:
        try:
            packet, ancillary, _, _ = endpoint.recvmsg(2048, 64)
        except BlockingIOError:
            return
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        yield packet, seconds * 1_000_000_000 + nanoseconds


@dataclass(slots=True)
class Listener:
    """A viewer that notes when the kernel received each packet.

    Attributes:
        endpoint: Its socket.
        arrivals_ns: By RTP timestamp and number within the frame.
    """

    endpoint: socket.socket
    arrivals_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    _timestamp: int = -1
    _index: int = 0

    @classmethod
    def open(cls, network: Network) -> Listener:
        """Bind it, and read in the running loop."""
        listener = cls(timed_socket(network))
        asyncio.get_running_loop().add_reader(listener.endpoint, listener._read)
        return listener

    def close(self) -> None:
        """Stop reading, and close the socket."""
        asyncio.get_running_loop().remove_reader(self.endpoint)
        self.endpoint.close()

    def _read(self) -> None:
        for packet, arrived_ns in receive(self.endpoint):
            if 192 <= packet[1] < 224:  # RTCP
                continue
            (timestamp,) = struct.unpack_from(">I", packet, 4)
            self._index = self._index + 1 if timestamp == self._timestamp else 0
            self._timestamp = timestamp
            self.arrivals_ns[timestamp, self._index] = arrived_ns


def namespaces_allowed() -> str:
    """Why network namespaces cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    return "" if shutil.which("ip") else "the program `ip` is missing (Debian: iproute2)"


@contextmanager
def veth(*, offloads: bool, rate_bps: int | None = None) -> Iterator[Network]:
    """A link to a network namespace of its own.

    Args:
        offloads: Whether the link takes checksums and segmentation off the kernel's hands, as most cards do.
        rate_bps: Bits a second to the far side; what does not fit waits for 0.2 s at most. ``None``:
            no limit.

    Raises:
        RuntimeError: it cannot be made.
    """
    name, subnet = f"mfb{os.getpid() % 10000}{'o' if offloads else 'n'}", 10 + offloads
    near, far = f"10.255.{subnet}.1", f"10.255.{subnet}.2"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _run("ip", "addr", "add", f"{near}/30", "dev", f"{name}a")
        _run("ip", "link", "set", f"{name}a", "up")
        _run("ip", "-n", name, "addr", "add", f"{far}/30", "dev", f"{name}b")
        _run("ip", "-n", name, "link", "set", f"{name}b", "up")
        if not offloads:
            _run("ethtool", "-K", f"{name}a", "tx", "off", "gso", "off", "tx-udp-segmentation", "off")
        if rate_bps is not None:
            shape = ("rate", str(rate_bps), "burst", "3000", "latency", "200ms")
            _run("tc", "qdisc", "add", "dev", f"{name}a", "root", "tbf", *shape)
        yield Network(near, far, lambda make: _in_namespace(name, make), name)
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()}")


def _in_namespace(name: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Call ``make`` in a thread of its own, which alone enters the namespace."""
    made: list[socket.socket] = []

    def enter() -> None:
        descriptor = os.open(Path("/run/netns") / name, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) == 0:
                made.append(make())
        finally:
            os.close(descriptor)

    thread = threading.Thread(target=enter, name=f"network namespace {name}")
    thread.start()
    thread.join()
    if not made:
        raise RuntimeError(f"cannot enter the network namespace {name}")
    return made[0]
