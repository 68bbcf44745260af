"""The forkserver's child ends, with an exit code, whatever the process that asked for it does to the socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mafalda.dropin import forkserver
from mafalda.dropin.process.settings import WorkerSettings
from tests.conformance.mediasoup.driver_samples import until


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The socket of a forkserver of our own. A socket's path has at most 107 bytes, so pytest's folder is too deep."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        async with _forkserver() as path:
            yield path


@asynccontextmanager
async def _forkserver() -> AsyncIterator[Path]:
    path = forkserver.socket_path()
    path.parent.mkdir(mode=0o700)
    command = [sys.executable, "-c", f"from {forkserver.__name__} import run; run()"]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await until(path.exists, 60)
        yield path
    finally:
        process.kill()
        await process.wait()


def _request(address: Path, size: int, sent: bytes) -> bytes:
    """What the child answers to a request of ``size`` bytes that ends after ``sent``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control, Path(os.devnull).open() as null:
        control.settimeout(30)
        control.connect(str(address))
        fds = struct.pack("3i", null.fileno(), null.fileno(), 2)
        control.sendmsg([struct.pack("<I", size)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        control.sendall(sent)
        control.shutdown(socket.SHUT_WR)
        return control.recv(1)


@pytest.mark.parametrize(
    ("size", "sent"),
    [(1000, b""), (1000, b'{"settings"'), (4, b"null"), (2**31, b"")],
    ids=["nothing", "a part", "something else", "too much"],
)
async def test_a_request_that_is_not_whole_ends_the_child(address: Path, size: int, sent: bytes) -> None:
    assert _request(address, size, sent) == b"\x01"


async def test_a_child_reads_nothing_when_the_spawned_process_has_not_waited_for_it(address: Path) -> None:
    """That process serves the library by itself then: two readers of one pipe would take parts of its messages."""
    read_fd, write_fd = os.pipe()
    what = {"settings": WorkerSettings().to_dict(), "environment": {}, "cwd": "/", "pid": os.getpid()}
    sent = json.dumps(what).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        null = os.open(os.devnull, os.O_RDWR)
        control.settimeout(30)
        control.connect(str(address))
        os.write(write_fd, b"\xff")
        fds = struct.pack("3i", read_fd, null, null)
        control.sendmsg([struct.pack("<I", len(sent))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        control.sendall(sent)
        assert control.recv(1)  # it is ready
        control.shutdown(socket.SHUT_WR)  # given up
        code = control.recv(1)
    os.close(null)
    os.close(write_fd)
    left = os.read(read_fd, 10)
    os.close(read_fd)
    assert (code, left) == (b"\x01", b"\xff")


def test_the_socket_is_another_one_when_any_module_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dropin/forkserver.py", "bus/nats/bus.py", "contract/ids.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(forkserver, "__file__", str(tmp_path / "dropin/forkserver.py"))
    first = forkserver.socket_path()
    assert forkserver.socket_path() == first
    os.utime(tmp_path / "bus/nats/bus.py", ns=(1, 1))
    second = forkserver.socket_path()
    assert second != first
    (tmp_path / "contract/ids.py").unlink()
    assert forkserver.socket_path() not in (first, second)
