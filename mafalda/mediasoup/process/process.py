"""A worker process: spawned with the channel on fds 3 and 4, watched, and stopped with deadlines.

The process is alone in its process group, so that a terminal's Ctrl-C goes to us only; when we die, by whatever
means, the end of its fd 3 makes it exit.

What does not belong here: what is said on the channel (``channel``), mediasoup's objects (``worker``).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from mafalda.mediasoup.errors import WorkerStartFailed

# Descriptors of the channel inside the worker: it reads requests from 3 and answers on 4.
_REQUESTS_FD, _ANSWERS_FD = 3, 4
_LAST_WORDS_LINES = 20
log = structlog.get_logger("mafalda.mediasoup")


class ExitStatus(NamedTuple):
    """How a process ended: with a code, or by a signal."""

    exit_code: int | None
    signal: str | None


class WorkerProcess:
    """A running child.

    ``exited`` resolves with its status once it has been reaped, ``hung_up`` once its fd 4 is closed and read.
    """

    def __init__(self, pid: int, requests: socket.socket, answers: socket.socket, output: int) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self._ends = (requests, answers, os.fdopen(output, "rb", 0))
        self.exited: asyncio.Future[ExitStatus] = loop.create_future()
        self.hung_up: asyncio.Future[None] = loop.create_future()
        self.last_words: deque[str] = deque(maxlen=_LAST_WORDS_LINES)
        self._transports: list[asyncio.BaseTransport] = []

    async def converse(self, on_data: Callable[[bytes], None]) -> asyncio.WriteTransport:
        """Begin to read fd 4, giving what comes to ``on_data``; returns where to write to fd 3."""
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
        """Signal the process, unless it was reaped already."""
        if not self.exited.done():
            os.kill(self.pid, number)

    async def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within ``timeout_s``."""
        await asyncio.wait([self.exited], timeout=timeout_s)
        return self.exited.done()

    async def stop(self, graceful_s: float, term_s: float) -> ExitStatus:
        """Wait ``graceful_s`` for an exit that was asked for, then SIGTERM, after ``term_s`` SIGKILL."""
        if not await self.wait(graceful_s):
            log.warning("worker does not close", action="worker_terminated", worker_pid=self.pid)
            self.send_signal(signal.SIGTERM)
            if not await self.wait(term_s):
                log.error("worker does not terminate", action="worker_killed", worker_pid=self.pid)
                self.send_signal(signal.SIGKILL)
        return await asyncio.shield(self.exited)

    def release(self) -> None:
        """Close our ends of everything that leads to the process."""
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                transport.close()
        for end in self._ends[len(self._transports) :]:
            end.close()


class _Answers(asyncio.Protocol):
    """Fd 4 of the worker."""

    def __init__(self, process: WorkerProcess, on_data: Callable[[bytes], None]) -> None:
        self._process = process
        self._on_data = on_data

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._process.hung_up.done():
            self._process.hung_up.set_result(None)


class _Output(asyncio.Protocol):
    """The worker's stdout and stderr, where libraries inside it write; its own log comes by the channel."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            self._say(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._say(self._rest)

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._process.last_words.append(text)
            log.warning("worker prints", action="worker_output", worker_pid=self._process.pid, line=text)


def spawn(command: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
    """Start a worker.

    Args:
        command: The program (looked up in PATH) and its arguments.
        environment: The child's whole environment.

    Raises:
        WorkerStartFailed: There is no such program, or it may not be executed.
    """
    requests, worker_requests = socket.socketpair()
    answers, worker_answers = socket.socketpair()
    output, worker_output = os.pipe()
    try:
        pid = _posix_spawn(command, environment, worker_requests, worker_answers, worker_output)
    except OSError as error:
        requests.close()
        answers.close()
        os.close(output)
        raise WorkerStartFailed(
            "cannot start the worker", command=command[0], error=error.strerror or str(error)
        ) from error
    finally:
        worker_requests.close()
        worker_answers.close()
        os.close(worker_output)
    process = WorkerProcess(pid, requests, answers, output)
    _watch(process, asyncio.get_running_loop())
    return process


def _posix_spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    requests: socket.socket,
    answers: socket.socket,
    output: int,
) -> int:
    # Above 10, so that no dup2 overwrites the source of the next one. Python's descriptors are close-on-exec,
    # so the child has exactly 0 to 4.
    sources = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (requests, answers, output)]
    try:
        return os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, sources[2], 1),
                (os.POSIX_SPAWN_DUP2, sources[2], 2),
                (os.POSIX_SPAWN_DUP2, sources[0], _REQUESTS_FD),
                (os.POSIX_SPAWN_DUP2, sources[1], _ANSWERS_FD),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM),
        )
    finally:
        for fd in sources:
            os.close(fd)


def _watch(process: WorkerProcess, loop: asyncio.AbstractEventLoop) -> None:
    """Reap the child when it ends, and resolve ``exited``."""

    def ended(status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if not process.exited.done():
            name = None if code >= 0 else signal.Signals(-code).name
            process.exited.set_result(ExitStatus(code if code >= 0 else None, name))

    if hasattr(os, "pidfd_open"):
        pidfd = os.pidfd_open(process.pid)

        def readable() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            ended(os.waitpid(process.pid, 0)[1])

        loop.add_reader(pidfd, readable)
        return

    def wait() -> None:
        status = os.waitpid(process.pid, 0)[1]
        with suppress(RuntimeError):  # the loop may be gone: then nobody asks
            loop.call_soon_threadsafe(ended, status)

    threading.Thread(target=wait, name=f"mediasoup-worker {process.pid}", daemon=True).start()
