"""What the application opened once and the SDK keeps open: at each new placement it is opened again.

What does not belong here: what is opened (``producer``, ``consumer``, ``data``), where (``session``).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

import structlog
from aiortc.exceptions import InvalidStateError as AiortcInvalidStateError
from pymediasoup.errors import InvalidStateError, UnsupportedError

from mafalda import errors
from mafalda.aio.events import Interrupted, run_unless_set, wait_first
from mafalda.client.session.view import Fate
from mafalda.client.webrtc.endpoint import Endpoint
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.queries import QueryStats, Stats
from mafalda.contract.messages.results import Done
from mafalda.errors import BadInput, Broken, Closed, MafaldaError, NotFound

if TYPE_CHECKING:
    from mafalda.client.session.session import Session

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_VIEW_AHEAD_S = 2.0


class Kept(ABC):
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
        """Whether it is over: closed by us, by the room's end, or given up."""
        return self._over.is_set()

    @property
    def is_open(self) -> bool:
        """Whether it is open now; not while reconnecting."""
        return self._open.is_set()

    async def wait_open(self) -> None:
        """Wait until it is open, or over."""
        await wait_first(self._open, self._over)

    async def wait_lost(self) -> None:
        """Wait until it is not open for the moment, or over."""
        await wait_first(self._not_open, self._over)

    async def wait_closed(self) -> None:
        """Wait until it is over."""
        await self._over.wait()

    async def close(self) -> None:
        """Close it, here and on the server. Closing twice is closing once."""
        if self.closed:
            return
        was_open = self.is_open
        await self._end(None)
        if self._session.has_endpoint:
            if was_open:
                await self._drop_here()
            await self._tell(self._closing())

    async def stats(self) -> Stats:
        """What the worker counts of it: statistics in the shape that mediasoup gives them."""
        self._check()
        return await self._session.asker.query(QueryStats(target=self.stats_target, id=self.id), Stats)

    # --- for the session ------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Open it for the first time.

        Raises:
            MafaldaError: It cannot be opened.
        """
        self._session.kept.add(self)
        self._task = self._session.tasks.spawn(self._keep(), self._name)
        try:
            await wait_first(self._open, self._over)
        except asyncio.CancelledError:
            await self._end(None)
            self._take_back()
            raise
        if not self.is_open:
            self._check()
        return self

    @property
    def is_ours(self) -> bool:
        """Whether it is something that we send: ``Reconnected`` waits for it."""
        return False

    @abstractmethod
    def hear_of_producers(self, fates: Mapping[str, Fate]) -> None:
        """Room events did this to producers."""

    def lose(self) -> None:
        """Its server side is gone, though the transport is not: open it again."""
        self._lost.set()

    def finish(self, error: MafaldaError | None = None) -> None:
        """It is over; the first call counts."""
        if not self.closed:
            self._error = error
            self._set_open(False)
            self._over.set()
            self._session.kept.discard(self)
            self._ended()

    # --- for what is kept -----------------------------------------------------------------------------

    @abstractmethod
    async def _open_at(self, endpoint: Endpoint) -> None:
        """Open it at this endpoint."""

    @abstractmethod
    async def _drop_here(self) -> None:
        """Close pymediasoup's part of it, on a transport that lives on."""

    @abstractmethod
    def _closing(self) -> Intent:
        """The intent that closes it on the server."""

    @abstractmethod
    def _ended(self) -> None:
        """It is over: end what the application reads from."""

    def _check(self) -> None:
        if self.closed:
            raise self._error or Closed(f"{self._name} is closed")

    async def _tell(self, intent: Intent) -> None:
        """Ask for something whose refusal only means that it is not needed any more."""
        try:
            await self._session.asker.ask(intent, Done)
        except MafaldaError as error:
            _log.info("not done", action=f"client.{intent.action}", reason=str(error))

    def _take_back(self) -> None:
        """Have closed on the server what may have been opened there without our knowing."""
        if self._session.has_endpoint:
            self._session.tasks.spawn(self._tell(self._closing()), f"{self._name}-take-back")

    # --- keeping --------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        try:
            while not self.closed:
                endpoint = await self._session.endpoint()
                if not await self._open_or_gone(endpoint):
                    continue
                self._opened_once = True
                self._set_open(True)
                await wait_first(endpoint.gone, self._lost)
                self._set_open(False)
                if not endpoint.gone.is_set():
                    await self._drop_here()
        except MafaldaError as error:
            opened_once = self._opened_once
            self.finish(error)
            if isinstance(error, Broken):
                self._take_back()
            if opened_once and not self._session.over:
                self._session.gave_up(self.id, error)

    def _set_open(self, is_open: bool) -> None:
        now, then = (self._open, self._not_open) if is_open else (self._not_open, self._open)
        now.set()
        then.clear()

    async def _open_or_gone(self, endpoint: Endpoint) -> bool:
        """Open at this endpoint, trying again while it makes sense; false if the endpoint is gone meanwhile."""
        pause_s = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s()
        while True:
            self._lost.clear()
            try:
                await run_unless_set(endpoint.gone, self._open_at(endpoint), f"{self._name}-open")
            except Interrupted:
                return False
            except Exception as error:
                if endpoint.gone.is_set():
                    return False  # whatever it was, it was because of that
                known = _as_ours(error)
                if not self._may_retry(known) or loop.time() > give_up_at:
                    raise known from error
                _log.info("not open yet", action="client.reopen", name=self._name, reason=str(known))
            else:
                return True
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _patience_s(self) -> float:
        """How long opening may fail."""
        return self._session.config.producer_wait_s

    def _may_retry(self, error: MafaldaError) -> bool:
        """At first the application wants to know; later whatever may pass is waited for."""
        return self._opened_once and not isinstance(error, BadInput)

    async def _end(self, error: MafaldaError | None) -> None:
        self.finish(error)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])


class KeptProducer(Kept):
    """Something that we send. Its id is the same at every placement."""

    @property
    def is_ours(self) -> bool:
        return True

    def hear_of_producers(self, fates: Mapping[str, Fate]) -> None:
        if fates.get(self.id) == "closed":
            self.finish()


class KeptConsumer(Kept):
    """Something that we receive: it follows its producer."""

    def __init__(self, session: Session, name: str, producer: str) -> None:
        super().__init__(session, name)
        self.producer_id = producer

    def hear_of_producers(self, fates: Mapping[str, Fate]) -> None:
        match fates.get(self.producer_id):
            case "closed":
                self.finish()
            case "moved" | "opened":
                self.lose()

    async def _until_back(self) -> None:
        """Before opening again: wait until the producer is there.

        Raises:
            NotFound: It did not come back in time.
        """
        if self._opened_once:
            try:
                async with asyncio.timeout(self._session.config.producer_wait_s):
                    await self._session.until(lambda: self.producer_id in self._session.view.producers)
            except TimeoutError:
                raise NotFound("the producer did not come back in time", producer=self.producer_id) from None
            self._lost.clear()  # what came before was said of the one that vanished

    def _may_retry(self, error: MafaldaError) -> bool:
        # The room's view may be ahead of our agent's for a moment.
        ahead = isinstance(error, NotFound) and self.producer_id in self._session.view.producers
        return ahead or super()._may_retry(error)

    def _patience_s(self) -> float:
        return super()._patience_s() if self._opened_once else _VIEW_AHEAD_S


def _as_ours(error: Exception) -> MafaldaError:
    """Errors of pymediasoup and aiortc in our words; anything else is a bug and stays itself."""
    if isinstance(error, MafaldaError):
        return error
    if isinstance(error, UnsupportedError):
        return errors.UnsupportedError(str(error))
    if isinstance(error, InvalidStateError | AiortcInvalidStateError | ConnectionError):
        return errors.Broken(f"WebRTC failed here: {error}")
    raise error
