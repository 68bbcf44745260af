"""A worker process: its channel on file descriptors 3 and 4, its output, signals, and stopping with deadlines."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import structlog

_LAST_LINES = 20
log = structlog.get_logger("mafalda.mediasoup")


class ExitStatus(NamedTuple):
    """How a process ended: with a code, or by a signal."""

    exit_code: int | None
    signal: str | None


class WorkerProcess:
    """A child process.

    Attributes:
        exited: Resolves with the exit status once the process has been reaped.
        hung_up: Resolves once its file descriptor 4 is closed and everything in it is read.
        last_lines: The last lines of its stdout and stderr.
    """

    def __init__(self, pid: int, requests: socket.socket, answers: socket.socket, output: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self._ends = (requests, answers, os.fdopen(output, "rb", 0))
        self.exited: asyncio.Future[ExitStatus] = loop.create_future()
        self.hung_up: asyncio.Future[None] = loop.create_future()
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._transports: list[asyncio.BaseTransport] = []

    async def open_channel(self, on_data: Callable[[bytes], None]) -> asyncio.WriteTransport:
        """Call ``on_data`` with what the worker writes to fd 4; returns the writer to its fd 3."""
        loop = asyncio.get_running_loop()
        requests, answers, output = self._ends
        writer, _ = await loop.create_unix_connection(asyncio.Protocol, sock=requests)
        self._transports.append(writer)
        reader, _ = await loop.create_unix_connection(lambda: _Answers(self, on_data), sock=answers)
        self._transports.append(reader)
        printed, _ = await loop.connect_read_pipe(lambda: _Output(self), output)
        self._transports.append(printed)
        return writer

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process was reaped already."""
        if not self.exited.done():
            os.kill(self.pid, number)

    async def wait(self, timeout_s: float) -> bool:
        """Whether the process exits within ``timeout_s`` seconds."""
        await asyncio.wait([self.exited], timeout=timeout_s)
        return self.exited.done()

    async def stop(self, graceful_s: float, term_s: float) -> ExitStatus:
        """Wait ``graceful_s`` seconds for a requested exit, then send SIGTERM, ``term_s`` seconds later SIGKILL."""
        if not await self.wait(graceful_s):
            log.warning("worker does not close", action="worker_terminated", worker_pid=self.pid)
            self.send_signal(signal.SIGTERM)
            if not await self.wait(term_s):
                log.error("worker does not terminate", action="worker_killed", worker_pid=self.pid)
                self.send_signal(signal.SIGKILL)
        return await asyncio.shield(self.exited)

    def release(self) -> None:
        """Close this side of the channel and of the output."""
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                transport.close()
        for end in self._ends[len(self._transports) :]:
            end.close()


class _Answers(asyncio.Protocol):
    """Reads file descriptor 4 of the worker."""

    def __init__(self, process: WorkerProcess, on_data: Callable[[bytes], None]) -> None:
        self._process = process
        self._on_data = on_data

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._process.hung_up.done():
            self._process.hung_up.set_result(None)


class _Output(asyncio.Protocol):
    """Reads the worker's stdout and stderr, where libraries inside it write; its own log comes by the channel."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            self._log_line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._log_line(self._rest)

    def _log_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._process.last_lines.append(text)
            log.warning("worker prints", action="worker_output", worker_pid=self._process.pid, line=text)
