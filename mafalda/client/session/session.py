"""One membership of a room: what is heard of it, where we are placed, and the endpoint there.

The log is read in one task; it answers what was asked, keeps the view, and says when our placement
or something that we opened is gone. Another task makes an endpoint for each placement. What does not
belong here: the application's API (``room``), what is opened (``kept`` and its children).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from mafalda.aio.events import Interrupted, run_unless_set, wait_first
from mafalda.aio.tasks import TaskScope
from mafalda.bus.protocol import Delivery, Follower
from mafalda.client.config import ClientConfig
from mafalda.client.events import Fanout, GaveUp, Reconnected, Reconnecting
from mafalda.client.session.requests import Asker
from mafalda.client.session.view import RoomView
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.contract import subjects
from mafalda.contract.messages import events
from mafalda.contract.messages.envelope import Message, decode
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import QueryRoom, RoomSnapshot
from mafalda.contract.messages.results import JoinResult, Result
from mafalda.errors import Broken, Closed, DeadlineExceeded, MafaldaError, NotJoined

if TYPE_CHECKING:
    from mafalda.client.session.reconnecting import Kept

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Session:
    """See the module. Made by ``Client.join``, which calls ``listen``, joins, calls ``begin``, and at last ``end``."""

    def __init__(self, asker: Asker, config: ClientConfig) -> None:
        self.asker = asker
        self.config = config
        self.view = RoomView()
        self.fanout = Fanout(config.max_queued_events)
        self.tasks = TaskScope(self.task_failed)
        self.kept: set[Kept] = set()
        self.placement: JoinResult | None = None
        self.leaving = False
        self._early: list[tuple[int, Payload]] | None = []  # room events from before the snapshot
        self._wanted_generation = 1
        self._endpoint: Endpoint | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._error: MafaldaError | None = None
        self._pulse = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the membership has ended."""
        return self._over.is_set()

    @property
    def has_endpoint(self) -> bool:
        """Whether there is somebody to talk to: not while reconnecting."""
        return self._ready.is_set() and not self.over

    # --- life ------------------------------------------------------------------------------------------

    def listen(self, follower: Follower) -> None:
        """Start reading; before the join is asked for, so that nothing is missed."""
        self.tasks.spawn(self._read(follower), "room-reader")

    async def begin(self) -> None:
        """Take the room's snapshot, and start keeping an endpoint; we have a place."""
        page = await self.asker.query(QueryRoom(), RoomSnapshot)
        self.view.start(page)
        while page.next is not None:
            page = await self.asker.query(QueryRoom(after=page.next), RoomSnapshot)
            self.view.add(page)
        early, self._early = self._early or [], None
        for seq, event in early:
            self.view.apply(seq, event)
        self.tasks.spawn(self._keep_endpoint(), "endpoint-keeper")
        self.tasks.spawn(self._show_life(), "sign-of-life")

    def fail(self, error: MafaldaError | None) -> None:
        """The membership is over: by ``error``, or because we leave."""
        if not self.over:
            self._error = error
            self._over.set()
            for thing in list(self.kept):
                thing.finish(error)
            self.fanout.end(error)

    async def end(self) -> None:
        """Stop everything; the room is left."""
        self.fail(None)
        await self.tasks.close()
        if self._endpoint is not None:
            await self._endpoint.close()

    def task_failed(self, name: str, error: Exception) -> None:
        """A task that the membership depends on has failed: the membership is over."""
        if not isinstance(error, MafaldaError):
            _log.error("the client failed", action="client.bug", task=name, exc_info=error)
            error = Broken(f"the client failed: {type(error).__name__}: {error}")
        self.fail(error)

    # --- for what is kept --------------------------------------------------------------------------------

    async def endpoint(self) -> Endpoint:
        """The endpoint of our present placement, as soon as there is one.

        Raises:
            MafaldaError: The membership is over, for this reason (``Closed``: we left).
        """
        while True:
            await wait_first(self._ready, self._over)
            if self.over:
                raise self._error or Closed("the room was left")
            if self._endpoint is not None and not self._endpoint.gone.is_set():
                return self._endpoint
            await asyncio.sleep(0)  # its keeper is about to notice

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that room events can change.

        Raises:
            MafaldaError: The membership is over.
        """
        while not condition():
            if self.over:
                raise self._error or Closed("the room was left")
            await wait_first(self._pulse, self._over)

    def follows(self, producer: str) -> bool:
        """Whether something of ours is kept open on this producer, wherever it goes."""
        return any(producer == getattr(thing, "producer_id", None) for thing in self.kept)

    def gave_up(self, thing_id: str, error: MafaldaError) -> None:
        """Tell the application that something could not be opened again."""
        self.fanout.emit(GaveUp(thing_id, error))

    # --- hearing -----------------------------------------------------------------------------------------

    async def _read(self, follower: Follower) -> None:
        async for delivery in follower:
            try:
                message = decode(delivery.data)
            except MafaldaError as error:
                _log.warning("unreadable", action="client.read", subject=delivery.subject, reason=str(error))
                continue
            self._hear(delivery, message)

    def _hear(self, delivery: Delivery, message: Message) -> None:
        address = subjects.parse(delivery.subject)
        payload = message.data
        if address is None:
            return
        if isinstance(payload, Result):
            self.asker.hear(message)
            if isinstance(payload, JoinResult) and self.placement is not None:
                self.placed(payload)
        elif address.peer is not None:
            self._hear_of_own(payload)
        elif isinstance(payload, events.Event):
            self._hear_of_room(delivery.seq, payload)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    def placed(self, placement: JoinResult) -> None:
        """We have a place; an older one than known is passed over."""
        if self.placement is None or placement.generation > self.placement.generation:
            self.placement = placement
            self._leave_place(placement.generation, "moved")

    def _leave_place(self, wanted_generation: int, cause: str) -> None:
        self._wanted_generation = max(self._wanted_generation, wanted_generation)
        if self._endpoint is not None and self._endpoint.generation < self._wanted_generation:
            self._endpoint.lose(cause)

    def _hear_of_own(self, payload: Payload) -> None:
        match payload:
            case events.TransportClosed():
                if self._endpoint is not None and self._endpoint.has_transport(payload.transport):
                    self._endpoint.lose(f"transport closed: {payload.reason}")
            case events.ConsumerClosed():
                self._lose_kept(payload.consumer)
            case events.DataConsumerClosed():
                self._lose_kept(payload.data_consumer)

    def _lose_kept(self, thing_id: str) -> None:
        for thing in list(self.kept):
            if thing.id == thing_id:
                thing.lose()

    def _hear_of_room(self, seq: int, event: events.Event) -> None:
        if self._early is not None:
            self._early.append((seq, event))
        elif seq > self.view.seq:
            fates = self.view.apply(seq, event)
            self.fanout.emit(event)
            for thing in list(self.kept):
                thing.hear_of_producers(fates)
        self._hear_of_self(event)

    def _hear_of_self(self, event: events.Event) -> None:
        if self.placement is None or getattr(event, "peer", None) != self.asker.peer:
            return
        match event:
            case events.PeerMoved():
                self._leave_place(event.generation, f"moved: {event.cause}")
            case events.PeerStranded() if event.generation >= self.placement.generation:
                self._leave_place(event.generation + 1, f"stranded: {event.error.code}")
            case events.PeerLeft() if event.generation >= self.placement.generation and not self.leaving:
                self.fail(NotJoined("the room let us go", reason=event.reason))

    async def _show_life(self) -> None:
        """Ask for something now and then, run_unless_set a connected transport shows that we are there."""
        while True:
            await asyncio.sleep(self.config.sign_of_life_s)
            endpoint = self._endpoint
            if endpoint is None or endpoint.is_connected or not self.has_endpoint:
                continue
            try:
                await run_unless_set(endpoint.gone, self.asker.query(QueryRoom(), RoomSnapshot), "sign-of-life-query")
            except (MafaldaError, Interrupted) as error:
                _log.info("no answer to a sign of life", action="client.sign-of-life", reason=str(error))

    # --- keeping an endpoint --------------------------------------------------------------------------

    async def _keep_endpoint(self) -> None:
        lost_at: float | None = None
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while True:
            placement = await self._wanted_placement(lost_at)
            endpoint = self._endpoint = Endpoint(placement, self.asker, self.config, self.tasks)
            await endpoint.load()
            self._ready.set()
            if lost_at is not None and await self._reopened(endpoint):
                self.fanout.emit(
                    Reconnected(placement.generation, placement.server, placement.worker, loop.time() - lost_at)
                )
                lost_at, pause_s = None, 0.0
            await endpoint.gone.wait()
            self._ready.clear()
            _log.info("reconnecting", action="client.reconnect", generation=endpoint.generation, reason=endpoint.cause)
            if lost_at is None:
                lost_at = loop.time()
                self.fanout.emit(Reconnecting(endpoint.generation, endpoint.cause))
            await endpoint.close()
            if self._wanted_generation <= endpoint.generation:  # the place is still ours, so mend it there
                self.tasks.spawn(endpoint.close_there(), "close-there")
                await self._pause(pause_s, endpoint.generation)
                pause_s = min(2 * pause_s + _FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    async def _wanted_placement(self, lost_at: float | None) -> JoinResult:
        """The placement that we should be at, as soon as it is known."""
        limit_s = self.config.reconnect_timeout_s
        at = None if lost_at is None or limit_s is None else lost_at + limit_s
        try:
            async with asyncio.timeout_at(at):
                await self.until(lambda: self._is_wanted(self.placement))
        except TimeoutError:
            raise DeadlineExceeded("no place for us in time", room=self.asker.room, timeout_s=limit_s) from None
        if at is not None and asyncio.get_running_loop().time() > at:
            raise DeadlineExceeded("could not reconnect in time", room=self.asker.room, timeout_s=limit_s)
        assert self.placement is not None
        return self.placement

    def _is_wanted(self, placement: JoinResult | None) -> bool:
        return placement is not None and placement.generation >= self._wanted_generation

    async def _pause(self, pause_s: float, generation: int) -> None:
        """Wait before another try at the same place; a new place ends it."""
        try:
            async with asyncio.timeout(pause_s):
                await self.until(lambda: self._wanted_generation > generation)
        except TimeoutError:
            return

    async def _reopened(self, endpoint: Endpoint) -> bool:
        """Wait until what we send is open again; false if the endpoint is gone before."""

        async def all_open() -> None:
            for thing in list(self.kept):
                if thing.is_ours:
                    await thing.wait_open()

        try:
            await run_unless_set(endpoint.gone, all_open(), "reopened")
        except Interrupted:
            return False
        return True
