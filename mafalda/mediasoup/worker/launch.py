"""Starting a worker: the command line, the process, and its first notification.

::

    async with create_worker() as worker:
        router = await worker.create_router(media_codecs=[...])
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from mafalda.mediasoup.base.entity import JsonObject
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.channel.messages import MEDIASOUP_VERSION
from mafalda.mediasoup.errors import (
    FramingError,
    RequestTimeout,
    WorkerClosed,
    WorkerSettingsRefused,
    WorkerStartFailed,
    WorkerVersionMismatch,
)
from mafalda.mediasoup.worker.process import ExitStatus, WorkerProcess
from mafalda.mediasoup.worker.spawn import spawn
from mafalda.mediasoup.worker.worker import LogLevel, Worker, finish

EXIT_VERSION, EXIT_SETTINGS = 41, 42
START_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 10.0
log = structlog.get_logger("mafalda.mediasoup")


@asynccontextmanager
async def create_worker(
    *,
    bin: str | Path | Sequence[str] | None = None,
    log_level: LogLevel = "error",
    log_tags: Iterable[str] = (),
    rtc_min_port: int | None = None,
    rtc_max_port: int | None = None,
    dtls_certificate_file: str | Path | None = None,
    dtls_private_key_file: str | Path | None = None,
    libwebrtc_field_trials: str | None = None,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
    start_timeout_s: float = START_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    app_data: Mapping[str, Any] | None = None,
) -> AsyncIterator[Worker]:
    """Start a worker, and close it at the end of the block.

    Args:
        bin: The program, or a command in front of its arguments (such as ``ip netns exec NS mediasoup-worker``);
            None: the environment's ``MEDIASOUP_WORKER_BIN``, else what ``mafalda worker install`` installed.
        log_level: What the worker logs.
        log_tags: The parts of the worker whose debug and warn lines are logged.
        rtc_min_port: First port of transports that state none; None: 10000.
        rtc_max_port: Last one; None: 59999.
        dtls_certificate_file: PEM; None: the worker makes one.
        dtls_private_key_file: PEM, of the certificate.
        libwebrtc_field_trials: For libwebrtc's bandwidth estimation.
        request_timeout_s: Deadline of each request, in seconds.
        start_timeout_s: Deadline of the start, in seconds.
        environment: The process's whole environment; None: that of this process. The version is added.
        app_data: The application's own.

    Raises:
        WorkerStartFailed: There is no mediasoup-worker, or it did not start.
        WorkerSettingsRefused: It refuses these settings.
        WorkerVersionMismatch: It got no version from the environment.
    """
    options = {
        "rtcMinPort": rtc_min_port,
        "rtcMaxPort": rtc_max_port,
        "dtlsCertificateFile": dtls_certificate_file,
        "dtlsPrivateKeyFile": dtls_private_key_file,
        "libwebrtcFieldTrials": libwebrtc_field_trials,
    }
    command = [*_program(bin), f"--logLevel={log_level}", *(f"--logTag={tag}" for tag in log_tags), *_given(options)]
    worker = await _start(command, environment, request_timeout_s, start_timeout_s, app_data)
    try:
        yield worker
    finally:
        await worker.close()


async def _start(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    request_timeout_s: float,
    start_timeout_s: float,
    app_data: Mapping[str, Any] | None,
) -> Worker:
    inherited = os.environ if environment is None else environment
    process = spawn(command, {"MEDIASOUP_VERSION": MEDIASOUP_VERSION, **inherited})

    def broken(_: FramingError) -> None:
        process.send_signal(signal.SIGKILL)

    channel = Channel(process.pid, request_timeout_s, broken)
    running: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    first: list[asyncio.Future[Any]] = [running, process.exited]

    def started(event: str, _: JsonObject) -> None:
        if event == "WORKER_RUNNING" and not running.done():
            running.set_result(None)

    channel.subscribe(str(process.pid), started)
    try:
        channel.attach(await process.open_channel(channel.feed))
        await asyncio.wait(first, timeout=start_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise _start_error(process, command, start_timeout_s)
    except BaseException:
        channel.end(WorkerClosed("the worker did not start"))
        process.send_signal(signal.SIGKILL)
        await finish(asyncio.create_task(_reap(process), name=f"mediasoup-worker {process.pid} reap"))
        raise
    channel.unsubscribe(str(process.pid))
    worker = Worker(channel, process, app_data)
    worker.watch()
    log.info("worker runs", action="worker_started", worker_pid=process.pid)
    return worker


async def _reap(process: WorkerProcess) -> None:
    await process.exited
    process.release()


def _start_error(process: WorkerProcess, command: Sequence[str], timeout_s: float) -> Exception:
    details: dict[str, Any] = {"command": command[0], "last_words": " | ".join(process.last_lines)}
    if not process.exited.done():
        return RequestTimeout("the worker did not send WORKER_RUNNING", timeout_s=timeout_s, **details)
    status: ExitStatus = process.exited.result()
    details |= status._asdict()
    if status.exit_code == EXIT_SETTINGS:
        return WorkerSettingsRefused("the worker refuses these settings", **details)
    if status.exit_code == EXIT_VERSION:
        return WorkerVersionMismatch("the worker got no version", **details)
    return WorkerStartFailed("the worker ended while it started", **details)


def _program(bin: str | Path | Sequence[str] | None) -> list[str]:
    if isinstance(bin, str | Path):
        return [str(bin)]
    if bin is not None:
        return [str(part) for part in bin]
    from mafalda.mediasoup.install import find_worker_bin

    found = find_worker_bin()
    if found is None:
        raise WorkerStartFailed("there is no mediasoup-worker: run `mafalda worker install`")
    return [str(found)]


def _given(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items() if value is not None]
