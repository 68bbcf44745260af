"""One membership of a room: what the log says of it, where the peer is placed, and the WebRTC endpoint there.

One task reads the log: it matches results to requests, keeps the view of the room, and notices when the placement or a
resource is gone. Another task makes an endpoint for each place. The states are those of ``SessionPlacement``. A peer
that the fleet has removed although its application is there (an outage on its side alone, a worker that failed) joins
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from mafalda.aio.events import Interrupted, run_unless_set, wait_first
from mafalda.aio.retry import retrying
from mafalda.aio.tasks import TaskScope, gather_or_cancel
from mafalda.bus.protocol import Delivery, PeerBus
from mafalda.client.config import ClientConfig
from mafalda.client.events import Fanout, GaveUp, Reconnected, Reconnecting
from mafalda.client.requests import PeerRequests
from mafalda.client.session.reporting import report_statistics
from mafalda.client.session.resource import SessionResource
from mafalda.client.session.speakers import SpeakerWatch
from mafalda.client.session.view import RoomSnapshotView
from mafalda.client.webrtc.ahead import TransportsAhead
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.client.webrtc.statistics import StreamReport
from mafalda.contract.messages import events
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.intents import Join, SetAudience
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import QueryRoom, RoomSnapshot
from mafalda.contract.messages.results import Done, JoinResult, Result
from mafalda.contract.messages.statistics import Way
from mafalda.contract.reading import read_message
from mafalda.errors import Broken, BusUnavailable, Closed, DeadlineExceeded, MafaldaError, NoCapacity, NotJoined
from mafalda.session.placement import SessionPlacement

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Session:
    """Made by ``Client.join``, which calls ``listen``, joins, calls ``begin``, and at last ``end``.

    Args:
        bus: Where the peer's requests are published.
        reply_subject: The client's private inbox.
        room: The room's id.
        peer: The peer's id.
        intent: How the peer joins, also when it has to join again.
        config: Limits.
        reports_statistics: Whether its WebRTC statistics are reported to its agent.
    """

    def __init__(
        self,
        bus: PeerBus,
        reply_subject: str,
        room: str,
        peer: str,
        intent: Join,
        config: ClientConfig,
        *,
        reports_statistics: bool = False,
    ) -> None:
        self._reports_statistics = reports_statistics
        self.config = config
        #: By which all deadlines are counted: it stands still while there is no bus.
        self.clock = bus.clock
        self.intent = intent
        self.tasks = TaskScope(self.task_failed)
        self.requests = PeerRequests(bus, self.tasks, reply_subject, room, peer, config)
        self.ahead = TransportsAhead(self.requests, self.tasks)
        self.view = RoomSnapshotView()
        self.fanout = Fanout(config.max_queued_events)
        #: Whether a join without an answer may be in the log: the peer may get a place that nobody knows of.
        self.may_be_placed = False
        self._placement: SessionPlacement[SessionResource, str] = SessionPlacement()
        self._before_snapshot: list[tuple[int, Payload]] | None = []
        self._endpoint: Endpoint | None = None
        self._over = asyncio.Event()
        self.speakers = SpeakerWatch(self.requests, reply_subject, self.tasks, self._over)
        self._ready = asyncio.Event()
        self._error: MafaldaError | None = None
        self._changed = asyncio.Event()
        self._lost_at: float | None = None  # by the clock, while reconnecting
        self._rejoining: asyncio.Task[None] | None = None

    @property
    def placement(self) -> JoinResult | None:
        """The last placement; ``None`` before the join is answered."""
        return self._placement.placement

    @property
    def generation(self) -> int:
        """Of the last placement; 0 before the join is answered."""
        return self._placement.generation

    @property
    def is_reconnecting(self) -> bool:
        """Whether ``Reconnecting`` was the last word."""
        return self._lost_at is not None

    @property
    def over(self) -> bool:
        """Whether the membership has ended."""
        return self._over.is_set()

    @property
    def has_endpoint(self) -> bool:
        """Whether the peer has a place with an endpoint: not while reconnecting."""
        return self._ready.is_set() and not self.over

    # --- life cycle ------------------------------------------------------------------------------------

    def listen(self, follower: AsyncIterator[Delivery]) -> None:
        """Start reading the log; before the join is requested, so that nothing is missed."""
        self.tasks.spawn(self._read(follower), "room-reader")

    async def begin(self) -> None:
        """Take the room's snapshot, and start keeping an endpoint; the peer has a place."""
        page = await self.requests.query(QueryRoom(), RoomSnapshot)
        self.view.start(page)
        while page.next is not None:
            page = await self.requests.query(QueryRoom(after=page.next), RoomSnapshot)
            self.view.add(page)
        before, self._before_snapshot = self._before_snapshot or [], None
        for seq, event in before:
            self.view.apply(seq, event)
        self.tasks.spawn(self._keep_endpoint(), "endpoint-keeper")
        self.tasks.spawn(self._send_heartbeats(), "heartbeat")
        if self._reports_statistics:
            self.tasks.spawn(
                report_statistics(self.requests, lambda: self.generation, self._measure), "statistics reports"
            )

    def leave(self) -> None:
        """The peer requests to leave: that it is reported as gone is no error from now on."""
        self._placement.leave()

    def fail(self, error: MafaldaError | None) -> None:
        """End the membership: by ``error``, or because the application leaves."""
        if not self.over:
            self._error = error
            self._over.set()
            self._placement.end()
            for resource in list(self._placement.held.values()):
                resource.finish(error)
            self.fanout.end(error)

    async def end(self) -> None:
        """Stop everything; the room is left."""
        self.fail(None)
        await self.tasks.close()
        endpoint = self._endpoint
        while endpoint is not None:
            await endpoint.close()
            endpoint = endpoint.replaces

    def task_failed(self, name: str, error: Exception) -> None:
        """A task that the membership depends on has failed: end the membership."""
        if not isinstance(error, MafaldaError):
            _log.error("the client failed", action="client_bug", task=name, exc_info=error)
            error = Broken(f"the client failed: {type(error).__name__}: {error}")
        self.fail(error)

    # --- for resources ----------------------------------------------------------------------------------

    def hold(self, resource: SessionResource) -> None:
        """Report changes to a resource until it is released."""
        self._placement.held[resource] = resource

    def release(self, resource: SessionResource) -> None:
        """End ``hold``."""
        self._placement.held.pop(resource, None)

    async def endpoint(self) -> Endpoint:
        """The endpoint at the present place, as soon as there is one.

        Raises:
            MafaldaError: The membership is over, for this reason (``Closed``: the application left).
        """
        while True:
            await wait_first(self._ready, self._over)
            if self.over:
                raise self._error or Closed("the room was left")
            if self._endpoint is not None and not self._endpoint.gone.is_set():
                return self._endpoint
            await asyncio.sleep(0)  # its keeper is about to notice

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that a message can change.

        Raises:
            MafaldaError: The membership is over.
        """
        while not condition():
            if self.over:
                raise self._error or Closed("the room was left")
            await wait_first(self._changed, self._over)

    async def unless_over(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something, until the membership is over.

        Raises:
            MafaldaError: The membership is over.
        """
        try:
            return await run_unless_set(self._over, work, "session-work")
        except Interrupted:
            raise self._error or Closed("the room was left") from None

    def follows(self, producer: str) -> bool:
        """Whether a consumer of this producer is held, which follows it from place to place."""
        return any(resource.follows(producer) for resource in self._placement.held.values())

    def gave_up(self, resource_id: str, error: MafaldaError) -> None:
        """Report to the application that a resource could not be opened again."""
        self.fanout.emit(GaveUp(resource_id, error))

    # --- reading the log --------------------------------------------------------------------------------

    async def _read(self, follower: AsyncIterator[Delivery]) -> None:
        async for delivery in follower:
            try:
                self._take(delivery)
            except MafaldaError as error:
                _log.warning("unreadable", action="client_read", subject=delivery.subject, reason=str(error))

    def _take(self, delivery: Delivery) -> None:
        address, message = read_message(delivery.subject, delivery.data)
        payload = message.data
        if isinstance(payload, Result):
            self.requests.take_stored(message)
            if isinstance(payload, JoinResult) and self.placement is not None:
                self.placed(payload)
        elif address.peer is not None:
            self._take_peer_event(payload)
        elif isinstance(payload, events.Event):
            self._take_room_event(delivery.seq, payload)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def set_audience(self, audience: bool) -> None:
        """Become one of the audience or stop being one; a later rejoin is as that.

        Raises:
            MafaldaError: It was not done.
        """
        while True:
            done = await self.unless_over(self.requests.request(SetAudience(audience=audience), Done))
            if done.generation >= self._placement.required_generation:
                return
            # The former place has done it after the move was decided, so the present one does not know.

    async def _set_audience_again(self) -> None:
        try:
            await self.set_audience(self.intent.audience)
        except MafaldaError as error:
            _log.warning("not of the audience", action="client_set_audience", reason=str(error))

    def placed(self, placement: JoinResult) -> None:
        """The peer has a place; an older one than known is passed over."""
        if self._placement.place(placement):
            self.requests.generation = placement.generation
            self._lose_endpoint("moved", handover=placement.handover)

    def _superseded(self, next_generation: int, cause: str, *, handover: bool = False) -> None:
        """The present place is gone, or about to go; the next one has at least this generation."""
        if next_generation > self._placement.generation:
            self._placement.lose(next_generation)
            self._lose_endpoint(cause, handover=handover)

    def _lose_endpoint(self, cause: str, *, handover: bool = False) -> None:
        if self._endpoint is not None and self._endpoint.generation < self._placement.required_generation:
            self._endpoint.lose(cause, handover=handover)

    def _take_peer_event(self, payload: Payload) -> None:
        match payload:
            case events.TransportClosed():
                if self._endpoint is not None and self._endpoint.has_transport(payload.transport):
                    self._endpoint.lose(f"transport closed: {payload.reason}")
            case events.ConsumerClosed():
                self._lose_resource(payload.consumer)
            case events.DataConsumerClosed():
                self._lose_resource(payload.data_consumer)
            case events.ProducerClosed(error=ErrorInfo() as error):
                self._give_up_resource(payload.producer, error.to_error())
            case events.DataProducerClosed(error=ErrorInfo() as error):
                self._give_up_resource(payload.data_producer, error.to_error())
            case events.Event() if isinstance(payload, events.MEMBERSHIP_EVENTS) and self.placement:
                self._take_own_room_event(payload, self.placement.generation, is_audience=True)
            case events.ConsumersOpened() | events.ConsumersClosed():
                for resource in list(self._placement.held.values()):
                    resource.on_peer_event(payload)

    def _give_up_resource(self, resource_id: str, error: MafaldaError) -> None:
        for resource in list(self._placement.held.values()):
            if resource.id == resource_id:
                resource.finish(error)
                self.gave_up(resource_id, error)

    def _lose_resource(self, resource_id: str) -> None:
        for resource in list(self._placement.held.values()):
            if resource.id == resource_id:
                resource.lose()

    def _take_room_event(self, seq: int, event: events.Event) -> None:
        if self._before_snapshot is not None:
            self._before_snapshot.append((seq, event))
        elif seq > self.view.seq:
            changes = self.view.apply(seq, event)
            self.fanout.emit(event)
            if not self._is_removal(event):
                for resource in list(self._placement.held.values()):
                    resource.on_producer_changes(changes)
        if self.placement is not None and getattr(event, "peer", None) == self.requests.peer:
            self._take_own_room_event(event, self.placement.generation, is_audience=False)

    def _take_own_room_event(self, event: events.Event, generation: int, *, is_audience: bool) -> None:
        """Take an event about the session's own peer; ``is_audience``: it was not published to the room."""
        match event:
            case events.PeerDemoted():
                self._join_as(audience=True)
            case events.PeerJoined():
                self._join_as(audience=event.audience)
            case events.PeerUpdated():
                self.intent = self.intent.model_copy(update={"app_data": event.app_data})
            case events.PeerMoved():
                self._superseded(event.generation, f"moved: {event.cause}", handover=event.handover)
                if is_audience is not self.intent.audience and event.generation >= generation:
                    # The place was decided before a change that the former one has made.
                    self.tasks.spawn(self._set_audience_again(), "set-audience")
            case events.PeerStranded() if event.generation >= generation:
                self._superseded(event.generation + 1, f"unschedulable: {event.error.code}")
            case events.PeerLeft() if event.generation >= generation and not self._placement.is_ending:
                if self._is_removal(event):
                    self._removed(event)
                else:
                    self.fail(
                        NotJoined("the fleet removed this peer from the room", reason=event.cause or event.reason)
                    )

    def _join_as(self, *, audience: bool) -> None:
        """A later rejoin is as the fleet has the peer now, whoever has changed that."""
        if self.intent.audience is not audience:
            self.intent = self.intent.model_copy(update={"audience": audience})

    def _is_removal(self, event: events.Event) -> bool:
        """Whether the fleet has removed this peer although it did not request to leave, so that it joins again."""
        if not isinstance(event, events.PeerLeft) or event.peer != self.requests.peer:
            return False
        return event.reason != "left" and not self._placement.is_ending

    def _removed(self, event: events.PeerLeft) -> None:
        self._placement.lose(event.generation + 1)
        self._lose_endpoint(f"removed: {event.reason}")
        if self._rejoining is None or self._rejoining.done():
            self._rejoining = self.tasks.spawn(self._rejoin(), "rejoin")

    async def _rejoin(self) -> None:
        """Join again, under the same id, as often as it takes; ``reconnect_timeout_s`` ends the membership before.

        Raises:
            MafaldaError: The join is refused, for another reason than that the fleet is full.
        """
        async for attempt in retrying(
            Broken, NoCapacity, action="client_rejoin", longest_s=_LONGEST_PAUSE_S, sleep=self.clock.sleep
        ):
            with attempt:
                if self._placement.target is None:
                    self.placed(await self.requests.request(self.intent, JoinResult))
                if self._placement.target is None:
                    raise Broken("the place is one from before the removal")

    async def _send_heartbeats(self) -> None:
        """Query something at intervals, unless a connected transport shows that the peer is alive."""
        while True:
            await self.clock.sleep(self.config.heartbeat_interval_s)
            endpoint = self._endpoint
            if endpoint is None or endpoint.is_connected or not self.has_endpoint:
                continue
            try:
                await run_unless_set(endpoint.gone, self.requests.query(QueryRoom(), RoomSnapshot), "heartbeat-query")
            except (MafaldaError, Interrupted) as error:
                _log.info("no answer to a heartbeat", action="client_heartbeat", reason=str(error))

    async def _measure(self, way: Way) -> list[StreamReport]:
        found = [await resource.measure(way) for resource in list(self._placement.held.values())]
        return [it for it in found if it is not None]

    # --- keeping an endpoint --------------------------------------------------------------------------

    async def _keep_endpoint(self) -> None:
        pause_s = 0.0
        while True:
            placement = await self._target()
            self._placement.reopen()
            former = self._endpoint if self._endpoint and self._endpoint.is_handed_over else None
            endpoint = self._endpoint = Endpoint(
                placement, self.requests, self.config, self.tasks, self.ahead, replaces=former
            )
            await endpoint.load()
            self._ready.set()
            self.speakers.renew()
            if former is not None:
                self.tasks.spawn(self._close_former(former, endpoint), f"close-former-{former.generation}")
            if self._lost_at is not None and await self._flows(endpoint):
                self._placement.reopened()
                took_s = self.clock.time() - self._lost_at
                self._lost_at, pause_s = None, 0.0
                self.fanout.emit(Reconnected(placement.generation, placement.server, placement.worker, took_s))
            await endpoint.gone.wait()
            self._ready.clear()
            _log.info("reconnecting", action="client_reconnect", generation=endpoint.generation, reason=endpoint.cause)
            if self._lost_at is None:
                self._lost_at = self.clock.time()
                self.fanout.emit(Reconnecting(endpoint.generation, endpoint.cause))
            if endpoint.is_handed_over:
                continue
            await endpoint.close()
            if self._placement.required_generation <= endpoint.generation:  # the place is still the peer's
                self._placement.lose(endpoint.generation)
                self.tasks.spawn(endpoint.close_there(), "close-there")
                await self._pause(pause_s, endpoint.generation)
                pause_s = min(2 * pause_s + _FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    async def _close_former(self, former: Endpoint, endpoint: Endpoint) -> None:
        """Close the endpoint at the former place as soon as media comes in at the new one, or some time later."""

        async def all_receive() -> None:
            for resource in self._awaited():
                await resource.wait_open()
                await resource.wait_media()

        try:
            async with self.clock.timeout(self.config.handover_timeout_s):
                await run_unless_set(endpoint.gone, all_receive(), "handover")
        except (TimeoutError, Interrupted) as error:
            reason = type(error).__name__
            _log.info(
                "handed over without media", action="client_handover", generation=endpoint.generation, reason=reason
            )
        await former.close()
        endpoint.replaces = None

    async def _target(self) -> JoinResult:
        """The placement where the peer should be, as soon as it is known.

        Raises:
            DeadlineExceeded: There is none in time.
        """
        limit_s = self.config.reconnect_timeout_s
        at = None if self._lost_at is None or limit_s is None else self._lost_at + limit_s
        try:
            async with self.clock.timeout_at(at):
                await self.until(lambda: self._placement.target is not None)
        except TimeoutError:
            raise DeadlineExceeded("no place in time", room=self.requests.room, timeout_s=limit_s) from None
        if at is not None and self.clock.time() > at:
            raise DeadlineExceeded("could not reconnect in time", room=self.requests.room, timeout_s=limit_s)
        target = self._placement.target
        assert target is not None
        return target

    async def _pause(self, pause_s: float, generation: int) -> None:
        """Wait before another try at the same place; a new place ends the wait."""
        try:
            async with self.clock.timeout(pause_s):
                await self.until(lambda: self._placement.required_generation > generation)
        except TimeoutError:
            return

    async def _flows(self, endpoint: Endpoint) -> bool:
        """Wait until media flows both ways; ``False`` if the endpoint is gone before.

        Where nothing is open, the answer of the agent shows that the place is alive.
        """

        async def all_flow() -> None:
            await gather_or_cancel(resource.wait_flowing() for resource in self._awaited())
            if not any(resource.is_open for resource in self._placement.held.values()):
                await self._wait_answered()

        try:
            await run_unless_set(endpoint.gone, all_flow(), "flows")
        except Interrupted:
            return False
        return True

    def _awaited(self) -> list[SessionResource]:
        """What is held and can be open at the present place."""
        return [resource for resource in self._placement.held.values() if resource.is_expected]

    async def _wait_answered(self) -> None:
        """Wait for an answer of the peer's agent. If it does not have the peer, the log says what becomes of that."""
        pauses = retrying(
            DeadlineExceeded, BusUnavailable, NotJoined, action="client_unanswered", sleep=self.clock.sleep
        )
        async for attempt in pauses:
            with attempt:
                await self.requests.query(QueryRoom(), RoomSnapshot)
