"""Spawning a worker with its channel on file descriptors 3 and 4, and reaping it.

The process has its own process group, so that a terminal's Ctrl-C reaches only this process. When this process dies,
however it does, the end of file on descriptor 3 makes the worker exit.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mafalda.mediasoup.errors import WorkerStartFailed
from mafalda.mediasoup.worker.process import ExitStatus, WorkerProcess

# File descriptors of the channel inside the worker: it reads requests from 3 and writes answers to 4.
_REQUESTS_FD, _ANSWERS_FD = 3, 4


def spawn(command: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
    """Start a worker process.

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
    # From 10 on, so that no dup2 overwrites the source of the next one. Python's descriptors are close-on-exec, so the
    # child has exactly 0 to 4.
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
    """Reap the process when it exits, and resolve ``exited``."""

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
        with suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(ended, status)

    threading.Thread(target=wait, name=f"mediasoup-worker {process.pid}", daemon=True).start()
