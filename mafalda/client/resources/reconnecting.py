"""Producers and consumers that the application opened once and the SDK opens again at each new place."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, Protocol, Self

import structlog
from aiortc.exceptions import InvalidStateError as AiortcInvalidStateError
from pymediasoup.errors import InvalidStateError, UnsupportedError

from mafalda import errors
from mafalda.aio.events import Interrupted, run_unless_set, wait_first
from mafalda.aio.retry import retrying
from mafalda.aio.tasks import cancel_and_wait
from mafalda.client.resources.settings import ResourceSettings
from mafalda.client.session.session import Session
from mafalda.client.session.view import ProducerChange
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.client.webrtc.statistics import StreamReport
from mafalda.client.webrtc.transport import ClientTransport
from mafalda.contract.messages.events import Event
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.queries import QueryStats, Stats
from mafalda.contract.messages.results import ConsumeDataResult, ConsumeResult, Done
from mafalda.contract.messages.statistics import Way
from mafalda.errors import BadInput, Broken, Closed, MafaldaError, NotFound

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
#: How long a first consume is tried, in seconds: the client's view of the room may be ahead of the agent's.
_VIEW_AHEAD_S = 2.0


class ReconnectingResource(ABC):
    """A producer or consumer of any kind. Made by ``room.produce`` and its like, which return it open."""

    #: Its word in ``QueryStats``.
    stats_target: Literal["producer", "consumer", "data-producer", "data-consumer"]

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._opened_once = False
        self._open = asyncio.Event()
        self._not_open = asyncio.Event()
        self._not_open.set()
        self._lost = asyncio.Event()
        self._over = asyncio.Event()
        self._error: MafaldaError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def id(self) -> str:
        """Its id on the server."""

    @property
    def closed(self) -> bool:
        """Whether it is closed for good: by the application, by the room's end, or given up."""
        return self._over.is_set()

    @property
    def is_open(self) -> bool:
        """Whether it is open now; not while reconnecting."""
        return self._open.is_set()

    @property
    def is_expected(self) -> bool:
        """Whether it is open at the present place, or can be opened there now."""
        return True

    @property
    def outlasts_endpoint(self) -> bool:
        """Whether the fleet keeps it when the endpoint is lost, so that it has to be closed all the same."""
        return False

    async def wait_open(self) -> None:
        """Wait until it is open, or closed for good."""
        await wait_first(self._open, self._over)

    async def wait_media(self) -> None:
        """Wait until media comes in at its present place; what is sent, and data, waits for nothing."""
        return

    @abstractmethod
    async def wait_flowing(self) -> None:
        """Wait until media or data can flow at its present place, or it is closed for good."""

    async def wait_lost(self) -> None:
        """Wait until it is not open for the moment, or closed for good."""
        await wait_first(self._not_open, self._over)

    async def wait_closed(self) -> None:
        """Wait until it is closed for good."""
        await self._over.wait()

    async def close(self) -> None:
        """Close it, here and on the server. Closing twice is closing once.

        Cancelled, it still closes: the server is requested to close it as soon as it can be reached.
        """
        if self.closed:
            return
        was_open = self.is_open
        await self._end(None)
        if self._session.has_endpoint and was_open:
            await self._close_here()
        if self._is_in_fleet:
            await asyncio.wait([self._session.tasks.spawn(self._request_close(), f"{self._name}-close")])

    @property
    def _is_in_fleet(self) -> bool:
        """Whether the fleet may have it, now or at the next place."""
        return self._session.has_endpoint or (self.outlasts_endpoint and not self._session.over)

    async def stats(self) -> Stats:
        """What the worker counts of it: statistics in the shape that mediasoup gives them."""
        self._check()
        return await self._session.requests.query(QueryStats(target=self.stats_target, id=self.id), Stats)

    async def measure(self, way: Way) -> StreamReport | None:
        """WebRTC statistics of what it sends or receives on a way; ``None``: it is not open, or not on that way."""
        return None

    # --- for the session ------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Open it for the first time.

        Raises:
            MafaldaError: It cannot be opened.
        """
        self._session.hold(self)
        self._task = self._session.tasks.spawn(self._keep_open(), self._name)
        try:
            await wait_first(self._open, self._over)
        except asyncio.CancelledError:
            await self._end(None)
            self._undo_opening()
            raise
        if not self.is_open:
            self._check()
        return self

    def follows(self, producer: str) -> bool:
        """Whether it consumes this producer, wherever that is placed."""
        return False

    @abstractmethod
    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        """A room event has changed producers, by id."""

    def on_peer_event(self, event: Event) -> None:
        """Something happened to the peer's own objects; of most kinds it concerns none."""
        return

    async def end_here(self) -> None:
        """It is closed for good on the server already: close it here."""
        if self.closed:
            return
        was_open = self.is_open
        await self._end(None)
        if was_open and self._session.has_endpoint:
            await self._close_here()

    def lose(self) -> None:
        """Its server side is gone, though the transport is not: open it again."""
        self._lost.set()

    def finish(self, error: MafaldaError | None = None) -> None:
        """It is closed for good; the first call counts."""
        if not self.closed:
            self._error = error
            self._set_open(False)
            self._over.set()
            self._session.release(self)
            self._ended()

    # --- for subclasses -----------------------------------------------------------------------------

    @abstractmethod
    async def _open_at(self, endpoint: Endpoint) -> None:
        """Open it at this endpoint."""

    async def _keep_settings(self) -> None:
        """Keep the server's settings equal to the application's, until cancelled; there are none by default."""
        return

    async def _apply(self, settings: ResourceSettings, *names: str) -> None:
        """Request settings now. What is being opened again, or has to be, is opened with them.

        Raises:
            MafaldaError: They are refused, or the server has not taken them yet.
        """
        with contextlib.suppress(Interrupted):
            await run_unless_set(self._not_open, settings.apply(*names), f"{self._name}-apply")

    @abstractmethod
    async def _close_here(self) -> None:
        """Close pymediasoup's part of it, on a transport that stays open."""

    async def _leave(self, endpoint: Endpoint) -> None:
        """It has to be opened again: this endpoint is gone, or what was opened at it."""
        if not endpoint.gone.is_set():
            await self._close_here()

    @abstractmethod
    def _closing(self) -> Intent:
        """The intent that closes it on the server."""

    @abstractmethod
    def _ended(self) -> None:
        """It is closed for good: end what the application reads from."""

    def _check(self) -> None:
        if self.closed:
            raise self._error or Closed(f"{self._name} is closed")

    async def _request_close(self) -> None:
        """Have it closed on the server; a refusal only means that it is closed already, and so does a lost endpoint."""
        intent, endpoint = self._closing(), await self._session.endpoint()
        with contextlib.suppress(Interrupted):
            await run_unless_set(endpoint.gone, self._request_until_answered(intent), f"{self._name}-close")

    async def _request_until_answered(self, intent: Intent) -> None:
        """Request what is answered by ``Done``, as often as it takes. A refusal is logged only."""
        try:
            async for attempt in retrying(
                Broken, action="client_not_closed", longest_s=_LONGEST_PAUSE_S, sleep=self._session.clock.sleep
            ):
                with attempt:
                    await self._session.requests.request(intent, Done)
        except MafaldaError as error:
            _log.info("not closed there", action="client_not_closed", reason=str(error))

    def _undo_opening(self) -> None:
        """Have it closed on the server, where it may have been opened although nothing was answered."""
        if self._is_in_fleet:
            self._session.tasks.spawn(self._request_close(), f"{self._name}-undo")

    # --- opening again --------------------------------------------------------------------------------------

    async def _keep_open(self) -> None:
        try:
            while not self.closed:
                endpoint = await self._session.endpoint()
                if not await self._open_or_gone(endpoint):
                    continue
                self._opened_once = True
                self._set_open(True)
                settings = self._session.tasks.spawn(self._keep_settings(), f"{self._name}-settings")
                try:
                    await wait_first(endpoint.gone, self._lost, self._over)
                finally:
                    await cancel_and_wait(settings)
                if self._over.is_set():
                    return await self._close_finished(endpoint)
                self._set_open(False)
                await self._leave(endpoint)
        except MafaldaError as error:
            opened_once = self._opened_once
            self.finish(error)
            if isinstance(error, Broken):
                self._undo_opening()
            if opened_once and not self._session.over:
                self._session.gave_up(self.id, error)

    async def _close_finished(self, endpoint: Endpoint) -> None:
        """It was open at this endpoint, and is over without having been closed here."""
        if not endpoint.gone.is_set() and not self._session.over:
            await self._close_here()

    def _set_open(self, is_open: bool) -> None:
        now, then = (self._open, self._not_open) if is_open else (self._not_open, self._open)
        now.set()
        then.clear()

    async def _open_or_gone(self, endpoint: Endpoint) -> bool:
        """Open it at this endpoint, trying again while that may help; ``False``: that is gone, or it is over."""
        pause_s = _FIRST_PAUSE_S
        clock = self._session.clock
        give_up_at = clock.time() + self._open_timeout_s()
        while not self.closed:
            self._lost.clear()
            opening = run_unless_set(endpoint.gone, self._open_at(endpoint), f"{self._name}-open")
            try:
                await run_unless_set(self._over, opening, f"{self._name}-open")
            except Interrupted:
                return False
            except Exception as error:
                if endpoint.gone.is_set():
                    return False  # it failed because of that
                known = _as_mafalda_error(error)
                if not self._may_retry(known) or clock.time() > give_up_at:
                    raise known from error
                _log.info("not open yet", action="client_reopen", name=self._name, reason=str(known))
            else:
                return True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return False

    def _open_timeout_s(self) -> float:
        """How long opening may fail, in seconds."""
        return self._session.config.producer_wait_s

    def _may_retry(self, error: MafaldaError) -> bool:
        """The first failure to open is the application's to handle; later whatever may pass is waited for."""
        return self._opened_once and not isinstance(error, BadInput)

    async def _connected(self, transport: ClientTransport) -> bool:
        """Wait until a transport is connected; ``False``: the resource is not open any more."""
        try:
            await run_unless_set(self._not_open, transport.wait_connected(), f"{self._name}-connected")
        except Interrupted:
            return False
        return True

    async def _end(self, error: MafaldaError | None) -> None:
        self.finish(error)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])


class ConsumerSource(Protocol):
    """A subscription, as its consumers need it: the peer's agent makes what they would else request."""

    async def media(self, producer: str, endpoint: Endpoint) -> ConsumeResult:
        """The consumer of a producer at an endpoint, as soon as there is one."""

    async def data(self, producer: str, endpoint: Endpoint) -> ConsumeDataResult:
        """The data consumer of a producer at an endpoint, as soon as there is one."""

    def announces(self, producer: str) -> bool:
        """Whether the agent makes a consumer of a producer, or has made one, unless the producer is too quiet now."""

    async def exclude(self, producer: str) -> None:
        """Have no consumer of a producer any more."""


class ReconnectingProducer(ReconnectingResource):
    """Something that the peer sends. Its id is the same at every place."""

    _transport: ClientTransport | None = None

    async def wait_flowing(self) -> None:
        while not self.closed:
            await self.wait_open()
            if self._transport is not None and await self._connected(self._transport):
                return

    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        if changes.get(self.id) == "closed":
            self.finish()


class ReconnectingConsumer(ReconnectingResource):
    """Something that the peer receives: it follows its producer from place to place."""

    def __init__(self, session: Session, name: str, producer: str, source: ConsumerSource | None = None) -> None:
        super().__init__(session, name)
        self.producer_id = producer
        self._source = source

    @property
    def is_expected(self) -> bool:
        return self.is_open or self._source is None or self._source.announces(self.producer_id)

    @property
    def outlasts_endpoint(self) -> bool:
        return self._source is not None

    async def _request_close(self) -> None:
        if self._source is None:
            return await super()._request_close()
        try:
            await self._source.exclude(self.producer_id)
        except MafaldaError as error:
            _log.info("not closed there", action="client_not_closed", reason=str(error))

    def follows(self, producer: str) -> bool:
        return producer == self.producer_id

    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        match changes.get(self.producer_id):
            case "closed":
                self.finish()
            case "moved" | "opened":
                self.lose()

    _transport: ClientTransport | None = None

    async def wait_flowing(self) -> None:
        """Return also when the producer is paused, or silent for ``media_wait_s`` after the transport is connected.

        A producer that is away is waited for as long; one that is there but not to be had yet, ``producer_wait_s``.
        """
        started_at = self._session.clock.time()
        while not self.closed:
            if not await self._opens(started_at):
                _log.info("not open yet", action="client_no_media", name=self._name)
                return
            if self._transport is None or not await self._connected(self._transport):
                continue
            if not self._expects_media():
                return
            try:
                async with self._session.clock.timeout(self._session.config.media_wait_s):
                    await run_unless_set(self._not_open, self.wait_media(), f"{self._name}-media")
            except Interrupted:
                continue
            except TimeoutError:
                _log.info("no media yet", action="client_no_media", name=self._name)
            return

    async def _opens(self, started_at: float) -> bool:
        """Wait until it is open or closed for good; ``False``: not in time, which began at ``started_at``."""
        config = self._session.config
        for wait_s in (config.media_wait_s, config.producer_wait_s):
            with contextlib.suppress(TimeoutError):
                async with self._session.clock.timeout_at(started_at + wait_s):
                    await self.wait_open()
                return True
            if self.producer_id not in self._session.view.producers:
                return False
        return False

    def _expects_media(self) -> bool:
        """Whether media is to come once the transport is connected."""
        return True

    async def _wait_for_producer(self) -> None:
        """Before opening again: wait until the producer is there. Before opening at all: until it is not being moved.

        Raises:
            NotFound: It did not come back in time.
        """
        view = self._session.view
        if self._opened_once or (self.producer_id in view.producers and not view.can_consume(self.producer_id)):
            try:
                async with self._session.clock.timeout(self._session.config.producer_wait_s):
                    await self._session.until(lambda: view.can_consume(self.producer_id))
            except TimeoutError:
                raise NotFound("the producer did not come back in time", producer=self.producer_id) from None
            self._lost.clear()  # what was set before is about the producer that vanished

    def _may_retry(self, error: MafaldaError) -> bool:
        # See _VIEW_AHEAD_S.
        ahead = isinstance(error, NotFound) and self.producer_id in self._session.view.producers
        return ahead or super()._may_retry(error)

    def _open_timeout_s(self) -> float:
        return super()._open_timeout_s() if self._opened_once else _VIEW_AHEAD_S


def _as_mafalda_error(error: Exception) -> MafaldaError:
    """Map the errors of pymediasoup and aiortc to Mafalda's; anything else is a bug and is raised as it is."""
    if isinstance(error, MafaldaError):
        return error
    if isinstance(error, UnsupportedError):
        return errors.UnsupportedError(str(error))
    if isinstance(error, InvalidStateError | AiortcInvalidStateError | ConnectionError):
        return errors.Broken(f"WebRTC failed here: {error}")
    raise error
