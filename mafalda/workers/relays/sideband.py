"""The sideband of relays: notices about a producer, passed on from worker to worker outside the pipes.

It has what a pipe cannot carry: messages of direct data producers (``direct_data``) and producers' scores (``scores``).
Inside a server a call passes a notice on, to another server a message does.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mafalda.aio.tasks import TaskScope
from mafalda.contract import subjects
from mafalda.contract.messages.channel_calls import ChannelNotice
from mafalda.contract.messages.notices import RelayNotices
from mafalda.errors import MafaldaError
from mafalda.workers.core.instructions import RelayKey
from mafalda.workers.log.batcher import NoticeBatcher
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.relays.pipes import PipeKey

Receive = Callable[[ChannelNotice], None]
Stop = Callable[[], None]
log = structlog.get_logger("mafalda.workers")


class Route:
    """The way of one producer's notices over one relay, at the relay's source."""

    def __init__(self, send: Receive, close: Stop) -> None:
        self.send = send
        self.close = close


class RelaySideband:
    """The routes out of, and the receivers on, one server's workers.

    Args:
        tasks: Where notices to other servers are published.
        publisher: Publishes them.
    """

    def __init__(self, tasks: TaskScope, publisher: Publisher) -> None:
        self._tasks = tasks
        self._publisher = publisher
        self._routes: dict[RelayKey, dict[PipeKey, Route]] = {}
        self._receivers: dict[RelayKey, tuple[PipeKey, Receive]] = {}

    # --- at the source --------------------------------------------------------------------------------

    def open_route(self, pipe: PipeKey, producer: str) -> Route:
        """Pass the producer's notices on to the pipe's target, until the route is closed."""
        key = pipe.at_source(producer)

        def close() -> None:
            routes = self._routes.get(key, {})
            if routes.get(pipe) is route:
                del routes[pipe]
            if not routes:
                self._routes.pop(key, None)

        send = (lambda notice: self._receive(pipe, notice)) if pipe.is_local else self._batcher(pipe).put
        route = Route(send, close)
        self._routes.setdefault(key, {})[pipe] = route
        return route

    def forward(self, room: str, worker: str, notice: ChannelNotice) -> None:
        """Pass a notice on over every relay of its producer (the notice's handler) from a worker of this server."""
        for route in list(self._routes.get(RelayKey(room, notice.handler, worker), {}).values()):
            route.send(notice)

    def _batcher(self, pipe: PipeKey) -> NoticeBatcher:
        subject = subjects.agent_notice(pipe.target.server, RelayNotices.action)

        async def publish(items: list[ChannelNotice]) -> None:
            notices = RelayNotices(room=pipe.room, source=pipe.source, target=pipe.target, items=items)
            await self._publisher.publish(notices, subject)

        return NoticeBatcher(self._tasks, pipe.target.server, publish)

    # --- at the target --------------------------------------------------------------------------------

    def subscribe(self, pipe: PipeKey, producer: str, receive: Receive) -> Stop:
        """Call ``receive`` with each notice about a relayed producer; returns what ends that."""
        key = pipe.at_target(producer)
        self._receivers[key] = receiver = (pipe, receive)

        def stop() -> None:
            if self._receivers.get(key) is receiver:
                del self._receivers[key]

        return stop

    def receive(self, notices: RelayNotices) -> None:
        """Take notices from another server."""
        pipe = PipeKey(notices.room, notices.source, notices.target)
        for notice in notices.items:
            self._receive(pipe, notice)

    def _receive(self, pipe: PipeKey, notice: ChannelNotice) -> None:
        receiver = self._receivers.get(pipe.at_target(notice.handler))
        if receiver is None or receiver[0] != pipe:
            return  # the relay has ended; its source will know soon
        try:
            receiver[1](notice)
        except (MafaldaError, ValueError) as error:
            log.warning("notice refused", action="notice_refused", producer_id=notice.handler, reason=str(error))
