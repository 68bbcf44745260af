"""The drop-in process from its settings to its exit code: the channel, the fleet, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys

import structlog
import uvloop

from mafalda.bus.config import BusConfig
from mafalda.bus.nats.bus import connect
from mafalda.dropin.fleet.client import FLEET_TIMEOUT_S, FleetCallbacks, open_fleet
from mafalda.dropin.process.pipes import Pipes
from mafalda.dropin.process.settings import WorkerSettings
from mafalda.dropin.process.startup import READ_FD, WRITE_FD
from mafalda.dropin.translation import translated
from mafalda.dropin.virtual.virtual_worker import VirtualWorker
from mafalda.errors import MafaldaError

EXIT_NO_FLEET = EXIT_WORKER_DIED = 1


def serve(settings: WorkerSettings) -> int:
    """Be the worker until the library or a signal ends it, or the fleet is lost; the exit code."""
    return serve_pipes(settings, READ_FD, WRITE_FD, os.getpid())


def serve_pipes(
    settings: WorkerSettings, read_fd: int, write_fd: int, pid: int, control: socket.socket | None = None
) -> int:
    """The same, over any two pipes.

    Args:
        settings: What the library started the worker with.
        read_fd: Where it writes.
        write_fd: Where it reads.
        pid: Of the process that it spawned.
        control: The socket to that process, if this is another one: a byte on it, or its end, ends the drop-in.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    return uvloop.run(_serve(settings, read_fd, write_fd, pid, control))


async def _serve(settings: WorkerSettings, read_fd: int, write_fd: int, pid: int, control: socket.socket | None) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def hung_up(code: int, reason: str) -> None:
        end(code)
        with contextlib.suppress(OSError):  # whoever read it may be gone as well
            print(f"mafalda-worker: {reason}, closing myself", file=sys.stderr, flush=True)

    def lost(reason: str) -> None:
        worker.log_to_library("E", reason)
        end(EXIT_NO_FLEET)

    def silent(sentence: str) -> None:
        worker.log_to_library("W", sentence)

    def end_by_control(control: socket.socket) -> None:
        loop.remove_reader(control)  # a socket at its end would be readable for ever
        end(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, 0)
    if control is not None:
        control.setblocking(False)
        loop.add_reader(control, end_by_control, control)
    worker = VirtualWorker(
        settings, pid, lambda payload: send(payload), on_close=lambda: end(0), on_die=lambda: end(EXIT_WORKER_DIED)
    )
    pipes = Pipes(read_fd, write_fd, lambda payload: receive(payload), hung_up)
    receive, send = translated(settings.library_version, worker.receive, pipes.send)
    pipes.open()
    callbacks = FleetCallbacks(worker.notify_library, worker.place_lost, worker.moved, lost, silent, worker.no_capacity)
    timeout_s = settings.fleet_timeout_s or FLEET_TIMEOUT_S
    # The streams are the fleet's business; an application may have no right to make any.
    config = BusConfig.from_environment(os.environ, name="mafalda-worker").model_copy(
        update={"ensure_streams": False, "append_timeout_s": 8.0, "connect_timeout_s": timeout_s}
    )
    try:
        async with connect(config) as bus, open_fleet(bus, callbacks, timeout_s, settings.tenant) as fleet:
            worker.begin(fleet)
            code = await ended
            await worker.close()
    except MafaldaError as error:
        worker.log_to_library("E", f"the fleet is out of reach: {error.reason or type(error).__name__}")
        code = EXIT_NO_FLEET
    pipes.close()
    if control is not None:
        loop.remove_reader(control)
        control.setblocking(True)
    return code
