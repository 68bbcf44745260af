"""A worker: one mediasoup-worker process, and the routers and WebRTC servers in it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import structlog

from mafalda.media.rtp import RtpCodecCapability
from mafalda.mediasoup import ortc
from mafalda.mediasoup.base.entity import Entity, EntityContext, JsonObject
from mafalda.mediasoup.base.events import Emitter, Event
from mafalda.mediasoup.base.ids import new_id
from mafalda.mediasoup.channel.channel import Channel
from mafalda.mediasoup.errors import ObjectClosed, WorkerClosed, WorkerExited
from mafalda.mediasoup.router.router import Router
from mafalda.mediasoup.router.webrtc_server import WebRtcServer
from mafalda.mediasoup.transports.listen import AnyListenInfo, listen_info_bodies
from mafalda.mediasoup.worker.process import WorkerProcess

LogLevel = Literal["debug", "warn", "error", "none"]
WorkerCloseCause = Literal["close", "died"]
# A worker closes within milliseconds; an overloaded one takes longer, and loses nothing by being killed.
GRACEFUL_CLOSE_S, TERM_CLOSE_S = 3.0, 2.0
# After the process has exited, its output is read for at most so long.
_LAST_BYTES_S = 1.0
# Callbacks that run when the worker closes are cancelled after this time.
_CALLBACK_GRACE_S = 1.0
log = structlog.get_logger("mafalda.mediasoup")


class Worker(Emitter):
    """Created by ``create_worker``."""

    # The process exited by itself; carries a WorkerExited. Its routers have emitted ``workerclose`` before.
    DIED: ClassVar = Event[WorkerExited]("died")
    NEW_ROUTER: ClassVar = Event[Router]("newrouter")
    NEW_WEBRTC_SERVER: ClassVar = Event[WebRtcServer]("newwebrtcserver")
    CLOSE: ClassVar = Event[WorkerCloseCause]("close")
    # A log line; its first character is the level: D, W, E or X.
    LOG: ClassVar = Event[str]("log")

    def __init__(self, channel: Channel, process: WorkerProcess, app_data: Mapping[str, Any] | None) -> None:
        super().__init__(channel.tasks)
        self._channel = channel
        channel.on_log = lambda line: self._emit(self.LOG, line)
        self._process = process
        self._routers: dict[str, Router] = {}
        self._webrtc_servers: dict[str, WebRtcServer] = {}
        self._closed = False
        self._death: WorkerExited | None = None
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
    def died(self) -> WorkerExited | None:
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
        """How many requests wait for an answer; many of them mean overload."""
        return self._channel.pending_requests

    async def request(self, method: str, handler_id: str = "", body: Mapping[str, Any] | None = None) -> JsonObject:
        """Send any request as it is, for passthrough, and wait for the answer's body.

        Args:
            method: mediasoup's name of it, such as ``ROUTER_DUMP``.
            handler_id: The worker's id of the object that it is for; empty for the worker itself.
            body: The request's body.

        Raises:
            InvalidParameters: The body does not fit the schema.
            NotFound: The worker has no such object.
            WorkerRequestFailed: The worker refused.
        """
        return await self._channel.request(method, handler_id, body)

    def notify(self, event: str, handler_id: str = "", body: Mapping[str, Any] | None = None) -> None:
        """Send any notification as it is, for passthrough.

        Raises:
            InvalidParameters: The body does not fit the schema.
        """
        self._channel.notify(event, handler_id, body)

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
            InvalidParameters: There is no such level.
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
            AlreadyExists: The id is in use.
            WorkerRequestFailed: It cannot listen there.
        """
        server_id = new_id(id)
        body = {"webRtcServerId": server_id, "listenInfos": listen_info_bodies(listen_infos)}
        await self._request_child(WebRtcServer, "WORKER_CREATE_WEBRTCSERVER", server_id, body)
        server = WebRtcServer(EntityContext(self._channel, "", server_id, self._forget_webrtc_server, app_data))
        self._webrtc_servers[server_id] = server
        server.receive_notifications()
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
        """Create a router for these codecs.

        Args:
            media_codecs: What producers may send.
            id: None: a new UUID4.
            scope: Appended to the ids of its producers inside the worker, where an id may be used only once over all
                routers; empty: nothing.
            app_data: The application's own.

        Raises:
            InvalidParameters: Something is malformed.
            AlreadyExists: The id is in use.
            UnsupportedError: mediasoup does not know a codec.
        """
        capabilities = ortc.generate_router_rtp_capabilities(media_codecs)
        router_id = new_id(id)
        await self._request_child(Router, "WORKER_CREATE_ROUTER", router_id, {"routerId": router_id})
        context = EntityContext(self._channel, "", router_id, self._forget_router, app_data)
        router = Router(context, capabilities, scope)
        self._routers[router_id] = router
        router.receive_notifications()
        self._emit(self.NEW_ROUTER, router)
        return router

    def kill(self) -> None:
        """Send SIGKILL to the process, such as one that does not answer. It dies as by an accident: see ``DIED``."""
        self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Close everything in the worker, stop the process and wait for its exit. May be called again."""
        if not self._closed:
            self._channel.notify("WORKER_CLOSE")
            self._end(WorkerClosed("the worker was closed", worker_pid=self.pid))
            self._emit(self.CLOSE, "close")
            self._drop_listeners()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name=f"mediasoup-worker {self.pid} stop")
        await finish(self._stopping)
        # Not in that task: a callback may call ``close``, and the task would wait for itself.
        await self._channel.tasks.close(_CALLBACK_GRACE_S)

    def watch(self) -> None:
        """For the driver: from now on an exit of the process is noticed."""
        self._watcher = asyncio.create_task(self._watch(), name=f"mediasoup-worker {self.pid} watch")

    async def _request_child(self, kind: type[Entity], method: str, id: str, body: JsonObject) -> None:
        undo = kind.close_request("", id)
        await self._channel.request(method, body=body, creates=id, undo=undo)
        if self._closed:
            raise ObjectClosed("closed meanwhile", kind="Worker", worker_pid=self.pid)

    def _forget_router(self, router: Router) -> None:
        self._routers.pop(router.id, None)

    def _forget_webrtc_server(self, server: WebRtcServer) -> None:
        self._webrtc_servers.pop(server.id, None)

    def _end(self, error: WorkerClosed | WorkerExited) -> None:
        """Close every object in it; pending requests fail with ``error``."""
        self._closed = True
        self._channel.end(error)
        for router in tuple(self._routers.values()):
            router.end("workerclose")
        for server in tuple(self._webrtc_servers.values()):
            server.end("workerclose")

    async def _watch(self) -> None:
        """Wait for the exit of the process; if nobody closed the worker, it died."""
        both: list[asyncio.Future[Any]] = [self._process.exited, self._process.hung_up]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        _, missing = await asyncio.wait(both, timeout=_LAST_BYTES_S)
        if self._process.exited in missing and not self._closed:
            log.error("worker hung up", action="worker_killed", worker_pid=self.pid)
            self._process.send_signal(signal.SIGKILL)
        status = await asyncio.shield(self._process.exited)
        if self._closed:
            return
        death = WorkerExited("the worker died", worker_pid=self.pid, exit_code=status.exit_code, signal=status.signal)
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


async def finish(task: asyncio.Task[None]) -> None:
    """Wait for the end of a task that has its own deadlines, even if the caller is cancelled meanwhile.

    Raises:
        CancelledError: The caller was cancelled; the task has ended.
    """
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
