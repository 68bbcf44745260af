"""A worker: one mediasoup-worker process and what was made in it.

    async with create_worker() as worker:
        router = await worker.create_router(media_codecs=[...])

What does not belong here: spawning and reaping (``process``), requests and answers (``channel``).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import structlog

from mafalda.media.rtp import RtpCodecCapability
from mafalda.mediasoup import ortc
from mafalda.mediasoup.channel.channel import Channel, Undo
from mafalda.mediasoup.channel.messages import MEDIASOUP_VERSION
from mafalda.mediasoup.errors import (
    FramingError,
    ObjectClosed,
    RequestTimeout,
    WorkerClosed,
    WorkerDied,
    WorkerSettingsRefused,
    WorkerStartFailed,
    WorkerVersionMismatch,
)
from mafalda.mediasoup.objects.entity import JsonObject, new_id
from mafalda.mediasoup.objects.events import Emitter, Event
from mafalda.mediasoup.objects.router import Router
from mafalda.mediasoup.objects.webrtc_server import WebRtcServer
from mafalda.mediasoup.process.process import ExitStatus, WorkerProcess, spawn
from mafalda.mediasoup.transports.listen import AnyListenInfo, listen_info_bodies

LogLevel = Literal["debug", "warn", "error", "none"]
WorkerCloseCause = Literal["close", "died"]
EXIT_VERSION, EXIT_SETTINGS = 41, 42
START_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 10.0
# A worker closes within milliseconds; an overloaded one takes longer, and loses nothing by being killed.
GRACEFUL_CLOSE_S, TERM_CLOSE_S = 3.0, 2.0
# After the exit is known, what the worker had still written is read for at most so long.
_LAST_BYTES_S = 1.0
# What callbacks are given to end when the worker goes.
_CALLBACK_GRACE_S = 1.0
log = structlog.get_logger("mafalda.mediasoup")


class Worker(Emitter):
    """Made by ``create_worker``."""

    # The process ended without being asked to; carries a WorkerDied. Its routers have seen workerclose before.
    DIED: ClassVar = Event[WorkerDied]("died")
    NEW_ROUTER: ClassVar = Event[Router]("newrouter")
    NEW_WEBRTC_SERVER: ClassVar = Event[WebRtcServer]("newwebrtcserver")
    CLOSE: ClassVar = Event[WorkerCloseCause]("close")

    def __init__(self, channel: Channel, process: WorkerProcess, app_data: Mapping[str, Any] | None) -> None:
        super().__init__(channel.tasks)
        self._channel = channel
        self._process = process
        self._routers: dict[str, Router] = {}
        self._webrtc_servers: dict[str, WebRtcServer] = {}
        self._closed = False
        self._death: WorkerDied | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.app_data: dict[str, Any] = dict(app_data or {})

    def __repr__(self) -> str:
        return f"<Worker {self.pid}{' closed' if self._closed else ''}>"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it was closed, or died."""
        return self._closed

    @property
    def died(self) -> WorkerDied | None:
        """How it died; None if it did not."""
        return self._death

    @property
    def routers(self) -> Mapping[str, Router]:
        """Its open routers by id."""
        return self._routers

    @property
    def webrtc_servers(self) -> Mapping[str, WebRtcServer]:
        """Its open WebRTC servers by id."""
        return self._webrtc_servers

    @property
    def pending_requests(self) -> int:
        """How many requests wait for an answer: a sign of overload."""
        return self._channel.pending_requests

    async def dump(self) -> JsonObject:
        """Its state in the worker, in mediasoup's shape."""
        return await self._channel.request("WORKER_DUMP")

    async def get_resource_usage(self) -> JsonObject:
        """getrusage(2) of the process: ``ru_utime`` and ``ru_stime`` in milliseconds, ``ru_maxrss`` in KiB."""
        return await self._channel.request("WORKER_GET_RESOURCE_USAGE")

    async def update_settings(
        self, *, log_level: LogLevel | None = None, log_tags: Sequence[str] | None = None
    ) -> None:
        """Change what the worker logs.

        Raises:
            InvalidParameters: It knows no such level.
        """
        body = {"logLevel": log_level, "logTags": list(log_tags) if log_tags is not None else None}
        await self._channel.request("WORKER_UPDATE_SETTINGS", body=body)

    async def create_webrtc_server(
        self,
        *,
        listen_infos: Sequence[AnyListenInfo],
        id: str | None = None,
        app_data: Mapping[str, Any] | None = None,
    ) -> WebRtcServer:
        """Open ports that many WebRTC transports of this worker share.

        Raises:
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is taken.
            WorkerRequestFailed: It cannot listen there.
        """
        server_id = new_id(id)
        body = {"webRtcServerId": server_id, "listenInfos": listen_info_bodies(listen_infos)}
        undo = Undo("WORKER_WEBRTCSERVER_CLOSE", "", {"webRtcServerId": server_id})
        await self._channel.request("WORKER_CREATE_WEBRTCSERVER", body=body, creates=server_id, undo=undo)
        self._check_open()
        server = WebRtcServer(self._channel, server_id, app_data, self._forget_webrtc_server)
        self._webrtc_servers[server_id] = server
        server._subscribe()
        self._emit(self.NEW_WEBRTC_SERVER, server)
        return server

    async def create_router(
        self,
        *,
        media_codecs: Sequence[RtpCodecCapability | Mapping[str, Any]] = (),
        id: str | None = None,
        scope: str = "",
        app_data: Mapping[str, Any] | None = None,
    ) -> Router:
        """Make a router for these codecs.

        Args:
            media_codecs: What producers may send.
            id: None is a fresh UUID4.
            scope: What is put behind the ids of its producers inside the worker, where an id may be used only once
                over all routers; empty: nothing.
            app_data: The application's own.

        Raises:
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is taken.
            UnsupportedError: mediasoup does not know a codec.
        """
        capabilities = ortc.generate_router_rtp_capabilities(media_codecs)
        router_id = new_id(id)
        undo = Undo("WORKER_CLOSE_ROUTER", "", {"routerId": router_id})
        body = {"routerId": router_id}
        await self._channel.request("WORKER_CREATE_ROUTER", body=body, creates=router_id, undo=undo)
        self._check_open()
        router = Router(self._channel, router_id, app_data, self._forget_router, capabilities, scope)
        self._routers[router_id] = router
        router._subscribe()
        self._emit(self.NEW_ROUTER, router)
        return router

    async def close(self) -> None:
        """Close everything in it, end the process, wait until it is gone. May be called again."""
        if not self._closed:
            self._channel.notify("WORKER_CLOSE")
            self._end(WorkerClosed("the worker was closed", worker_pid=self.pid))
            self._emit(self.CLOSE, "close")
            self._drop_listeners()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"mediasoup-worker {self.pid} stop")
        await _finish(self._stopping)
        # Here and not in that task: a callback may be what closes the worker.
        await self._channel.tasks.close(_CALLBACK_GRACE_S)

    def _check_open(self) -> None:
        if self._closed:
            raise ObjectClosed("closed meanwhile", kind="Worker", worker_pid=self.pid)

    def _forget_router(self, router: Router) -> None:
        self._routers.pop(router.id, None)

    def _forget_webrtc_server(self, server: WebRtcServer) -> None:
        self._webrtc_servers.pop(server.id, None)

    def _end(self, error: WorkerClosed | WorkerDied) -> None:
        """Close every handle in it; what is pending fails with ``error``."""
        self._closed = True
        self._channel.end(error)
        for router in tuple(self._routers.values()):
            router._end("workerclose")
        for server in tuple(self._webrtc_servers.values()):
            server._transports.clear()  # their routers closed them
            server._end("workerclose")

    async def _watch(self) -> None:
        """Notice when the process ends without being asked to."""
        both: list[asyncio.Future[Any]] = [self._process.exited, self._process.hung_up]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        _, missing = await asyncio.wait(both, timeout=_LAST_BYTES_S)
        if self._process.exited in missing and not self._closed:
            log.error("worker hung up", action="worker_killed", worker_pid=self.pid)
            self._process.send_signal(signal.SIGKILL)
        status = await asyncio.shield(self._process.exited)
        if self._closed:
            return
        death = WorkerDied("the worker died", worker_pid=self.pid, exit_code=status.exit_code, signal=status.signal)
        log.error("worker died", action="worker_died", worker_pid=self.pid, **status._asdict())
        self._death = death
        self._end(death)
        self._emit(self.DIED, death)
        self._emit(self.CLOSE, "died")
        self._drop_listeners()

    async def _stop(self) -> None:
        await self._process.stop(GRACEFUL_CLOSE_S, TERM_CLOSE_S)
        if self._watcher is not None:
            await self._watcher
        self._process.release()


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
    """Start a worker, and end it with the block.

    Args:
        bin: The program, or a command in front of its arguments (such as ``ip netns exec NS mediasoup-worker``);
            None: the environment's ``MEDIASOUP_WORKER_BIN``, else what ``mafalda worker install`` installed.
        log_level: What the worker logs.
        log_tags: Of what it logs debug and warn lines.
        rtc_min_port: First port of transports that state none; None: 10000.
        rtc_max_port: Last one; None: 59999.
        dtls_certificate_file: PEM; None: the worker makes one.
        dtls_private_key_file: PEM, of the certificate.
        libwebrtc_field_trials: For libwebrtc's bandwidth estimation.
        request_timeout_s: Deadline of each request, in seconds.
        start_timeout_s: Deadline of the start, in seconds.
        environment: The process's whole environment; None is ours. The version is added.
        app_data: The application's own.

    Raises:
        WorkerStartFailed: There is no worker, or it did not start.
        WorkerSettingsRefused: It does not take these settings.
        WorkerVersionMismatch: It was made for another library.
    """
    command = [
        *_program(bin),
        f"--logLevel={log_level}",
        *(f"--logTag={tag}" for tag in log_tags),
        *_option("rtcMinPort", rtc_min_port),
        *_option("rtcMaxPort", rtc_max_port),
        *_option("dtlsCertificateFile", dtls_certificate_file),
        *_option("dtlsPrivateKeyFile", dtls_private_key_file),
        *_option("libwebrtcFieldTrials", libwebrtc_field_trials),
    ]
    full_environment = {
        "MEDIASOUP_VERSION": MEDIASOUP_VERSION,
        **(os.environ if environment is None else environment),
    }
    worker = await _start(command, full_environment, request_timeout_s, start_timeout_s, app_data)
    try:
        yield worker
    finally:
        await worker.close()


async def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    request_timeout_s: float,
    start_timeout_s: float,
    app_data: Mapping[str, Any] | None,
) -> Worker:
    process = spawn(command, environment)

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
        channel.attach(await process.converse(channel.feed))
        await asyncio.wait(first, timeout=start_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise _start_error(process, command, start_timeout_s)
    except BaseException:
        channel.end(WorkerClosed("the worker did not start"))
        process.send_signal(signal.SIGKILL)
        await _finish(asyncio.create_task(_reap(process), name=f"mediasoup-worker {process.pid} reap"))
        raise
    channel.unsubscribe(str(process.pid))
    worker = Worker(channel, process, app_data)
    worker._watcher = asyncio.create_task(worker._watch(), name=f"mediasoup-worker {process.pid} watch")
    log.info("worker runs", action="worker_started", worker_pid=process.pid)
    return worker


async def _reap(process: WorkerProcess) -> None:
    await process.exited
    process.release()


def _start_error(process: WorkerProcess, command: Sequence[str], timeout_s: float) -> Exception:
    details: dict[str, Any] = {"command": command[0], "last_words": " | ".join(process.last_words)}
    if not process.exited.done():
        return RequestTimeout("the worker did not say that it runs", timeout_s=timeout_s, **details)
    status: ExitStatus = process.exited.result()
    details |= status._asdict()
    if status.exit_code == EXIT_SETTINGS:
        return WorkerSettingsRefused("the worker refuses these settings", **details)
    if status.exit_code == EXIT_VERSION:
        return WorkerVersionMismatch("the worker was not told its version", **details)
    return WorkerStartFailed("the worker ended while it started", **details)


async def _finish(task: asyncio.Task[None]) -> None:
    """Await a task that has its own deadlines to its end, even if we are cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


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


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [f"--{name}={value}"]
