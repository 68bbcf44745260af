"""The installed worker's batched sending and larger buffers, seen from outside.

A worker that is stopped while a burst arrives finds all of it when it goes on, so that it is one batch. A receiver
with UDP_GRO sees whether the datagrams of one destination came as one message.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mafalda.mediasoup import PlainTransport, create_worker
from mafalda.mediasoup.install import find_worker, lacks

UDP_GRO = 104
PIDFD_GETFD = 438
BUFFER_BYTES = 4 * 1024 * 1024
OPUS = {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}
PACKET_BYTES = 500
BURST = 6


def build_is_as_meant() -> bool:
    """Whether the worker of these tests is one that we built, and batches."""
    found = find_worker()
    return found is not None and found.path.with_name("build.json").is_file() and not list(lacks(found.path))


pytestmark = pytest.mark.skipif(not build_is_as_meant(), reason="the worker here is not the one that we build")


@dataclass(frozen=True, slots=True)
class Relay:
    """A worker with a producer and two consumers that send to one socket each."""

    pid: int
    source: PlainTransport
    sender: socket.socket
    receivers: list[socket.socket]

    def send_burst(self, first: int) -> None:
        """Send it while the worker is stopped."""
        local = self.source.tuple
        process = psutil.Process(self.pid)
        process.suspend()
        while process.status() != psutil.STATUS_STOPPED:
            os.sched_yield()
        for number in range(first, first + BURST):
            packet = struct.pack(">BBHII", 0x80, 111, number, number * 960, 4711) + bytes([number]) * PACKET_BYTES
            self.sender.sendto(packet, (local.local_address, local.local_port))
        process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def relay(ip: str, batch: str | None) -> AsyncIterator[Relay]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    environment = {name: value for name, value in os.environ.items() if name != "MAFALDA_UDP_BATCH"}
    if batch is not None:
        environment["MAFALDA_UDP_BATCH"] = batch
    sender, *receivers = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
    try:
        async with create_worker(environment=environment) as worker:
            router = await worker.create_router(media_codecs=[OPUS])
            source = await router.create_plain_transport(listen_info={"protocol": "udp", "ip": ip}, comedia=True)
            producer = await source.produce(
                kind="audio",
                rtp_parameters={
                    "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
                    "encodings": [{"ssrc": 4711}],
                    "rtcp": {"cname": "test"},
                },
            )
            for receiver in receivers:
                receiver.bind((ip, 0))
                receiver.setblocking(False)
                receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
                transport = await router.create_plain_transport(listen_info={"protocol": "udp", "ip": ip})
                await transport.connect(ip=ip, port=receiver.getsockname()[1])
                await transport.consume(producer_id=producer.id, rtp_capabilities=router.rtp_capabilities)
            yield Relay(worker.pid, source, sender, receivers)
    finally:
        for opened in (sender, *receivers):
            opened.close()


async def messages(receiver: socket.socket) -> list[list[int]]:
    """What came as one message each, until a burst is complete: the filling of each packet."""
    loop, found = asyncio.get_running_loop(), list[list[int]]()
    while sum(map(len, found)) < BURST:
        readable = asyncio.Event()
        loop.add_reader(receiver, readable.set)
        await readable.wait()
        loop.remove_reader(receiver)
        content, ancillary, _, _ = receiver.recvmsg(65536, socket.CMSG_SPACE(4))
        size = struct.unpack("i", ancillary[0][2])[0] if ancillary else len(content)
        packets = [content[at : at + size] for at in range(0, len(content), size)]
        if not 192 <= content[1] < 224:  # RTCP comes by itself
            found.append([packet[-1] for packet in packets])
    return found


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "ip",
    ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"))],
)
async def test_a_burst_to_one_destination_is_one_message(ip: str) -> None:
    async with relay(ip, None) as made:
        made.send_burst(1)
        for receiver in made.receivers:
            assert await messages(receiver) == [[1, 2, 3, 4, 5, 6]]
        made.send_burst(7)
        for receiver in made.receivers:
            assert await messages(receiver) == [[7, 8, 9, 10, 11, 12]]


async def test_one_setting_turns_the_batch_off() -> None:
    async with relay("127.0.0.1", "off") as made:
        made.send_burst(1)
        for receiver in made.receivers:
            assert await messages(receiver) == [[1], [2], [3], [4], [5], [6]]


async def test_a_socket_has_4_mib_of_buffers_or_what_the_kernel_gives() -> None:
    async with relay("127.0.0.1", None) as made:
        port = made.source.tuple.local_port
        (descriptor,) = [it.fd for it in psutil.Process(made.pid).net_connections("udp") if it.laddr.port == port]
        with socket.socket(fileno=copy_of(made.pid, descriptor)) as copied:
            for option, limit in ((socket.SO_RCVBUF, "rmem_max"), (socket.SO_SNDBUF, "wmem_max")):
                most = int((Path("/proc/sys/net/core") / limit).read_text())
                assert copied.getsockopt(socket.SOL_SOCKET, option) == 2 * min(BUFFER_BYTES, most)


def copy_of(pid: int, descriptor: int) -> int:
    """A descriptor of ours for a child's."""
    child = os.pidfd_open(pid)
    try:
        copied: int = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, child, descriptor, 0)
    finally:
        os.close(child)
    assert copied >= 0, os.strerror(ctypes.get_errno())
    return copied
