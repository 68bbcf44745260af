"""The session of one peer: each transport, observer and WebRtcServer of the application is a peer with its own place.

A session does what is requested of it in the order of the requests. Observers and WebRtcServers are opened again when
their worker dies, and so are transports that can be (``mafalda.dropin.virtual.remaking``), and any other one as long as
the library has no answer to its making: what it holds and what was interrupted is requested again at its next place.
The states are those of ``SessionPlacement``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from mafalda.aio.events import Interrupted, run_unless_set
from mafalda.contract.messages.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.messages.intents import CreateTransport, Intent, Leave
from mafalda.contract.messages.notices import first_batch
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import JoinResult
from mafalda.dropin.fleet.answers import (
    PLACE_GONE,
    LibraryAnswer,
    OnAnswer,
    answer_of,
    body_of,
    failed,
    ignore,
    refusal_of,
)
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.client import INTENT_TIMEOUT_S, FleetClient
from mafalda.errors import AlreadyExists, BusUnavailable, DeadlineExceeded, MafaldaError, NoCapacity, WorkerExited
from mafalda.session.placement import SessionPlacement

_GONE = "the worker that had this is gone"
#: How long a request to a session without a place waits for its next place, in seconds.
REOPEN_TIMEOUT_S = 8.0
#: How long a place is waited for, to leave it, after its join was given up, in seconds.
LATE_JOIN_S = 80.0
_log = structlog.get_logger("mafalda.dropin")
Job = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    intent: Intent
    on_answer: OnAnswer


class ObjectSession:
    """One peer.

    Args:
        fleet: Where it joins.
        room: The router's id.
        peer: The id of the transport, observer or WebRtcServer.
        kind: Which of them, for people who look at the fleet.
    """

    def __init__(self, fleet: FleetClient, room: str, peer: str, kind: str) -> None:
        self._fleet = fleet
        self.room, self.peer, self.kind = room, peer, kind
        #: The id of the object that it is for: the peer's, unless the place was there first.
        self.object = peer
        #: Whether it is a place that nothing is at yet.
        self.is_unused = False
        #: Takes the refusal of a join that began while it was unused.
        self.on_refused: OnAnswer = ignore
        #: Whether it is opened again when its worker dies.
        self.is_reopened = True
        #: Whether it was lost last since its server is drained; else its worker died.
        self.is_drained = False
        #: Requests what it holds at its next place; ``None``: each intent in ``held``, one after the other.
        self.remake: Callable[[], Awaitable[None]] | None = None
        #: The peer on whose worker it is placed if possible.
        self.beside: str | None = None
        #: The id of the WebRtcServer that it uses.
        self.webrtc_server: str | None = None
        self._placement: SessionPlacement[Intent, _Request] = SessionPlacement()
        self._lost = asyncio.Event()
        self._back = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()
        self._reopening: asyncio.Task[None] | None = None
        self._is_closed = False
        self._is_join_given_up = False  # nobody has answered it: the fleet may place the peer after all
        self._batch: list[ChannelNotice] | None = None  # published together if nothing else is requested in between
        self._requests: list[_Request] | None = None  # those of the job that was submitted last, if it has not begun

    def __str__(self) -> str:
        return self.peer

    @property
    def place(self) -> Place | None:
        """Its worker, as of the last placement."""
        found = self._placement.placement
        return Place(server=found.server, worker=found.worker) if found else None

    @property
    def generation(self) -> int:
        """Of its placement; it grows with each."""
        return self._placement.generation

    @property
    def is_lost(self) -> bool:
        """Whether requests cannot be sent now, because its place is gone."""
        return self._placement.is_lost

    @property
    def is_ending(self) -> bool:
        """Whether it leaves or has left."""
        return self._placement.is_ending

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent to its place now."""
        return not self.is_lost and not self.is_ending and not self.is_unused

    @property
    def held(self) -> dict[Any, Intent]:
        """What was granted and is requested again at each place, by a key of the owner's."""
        return self._placement.held

    # --- requests -------------------------------------------------------------------------------------

    def join(self, on_answer: OnAnswer) -> None:
        """Join the room, before any other request."""

        async def join() -> None:
            try:
                self._placement.place(await self._join())
            except MafaldaError as error:
                self._is_join_given_up = isinstance(error, DeadlineExceeded | BusUnavailable)
                if not self._is_join_given_up:
                    self._placement.end()
                self._lost.set()
                on_answer(LibraryAnswer({}, refusal_of(error)))
                return
            on_answer(LibraryAnswer({}))

        self.submit_job(join)

    async def _join(self) -> JoinResult:
        if self.is_unused:
            try:
                return await self._fleet.join_ahead(self.room, self.peer, self.kind, self.beside)
            except NoCapacity:
                if self.is_unused:  # else it has become urgent meanwhile
                    raise
        return await self._fleet.join(self.room, self.peer, self.kind, self.beside)

    def submit_job(self, job: Job) -> None:
        """Run something after everything that was requested before."""
        self._batch = self._requests = None
        self._fleet.jobs.submit(self, job)

    def request(self, intent: Intent, on_answer: OnAnswer) -> None:
        """Publish an intent after those before it; answers may come in any order.

        It goes in one message with those that were requested since the last job began.
        """
        if self._requests is not None:
            self._requests.append(_Request(intent, on_answer))
            return
        requests = [_Request(intent, on_answer)]

        async def request() -> None:
            if self._requests is requests:
                self._requests = None
            if self._is_join_given_up or (self.is_lost and not await self._is_back()):
                for it in requests:
                    it.on_answer(LibraryAnswer({}, failed(_GONE)))
                return
            await asyncio.gather(*(self._send(it, is_repeated=self.is_reopened) for it in requests))

        self.submit_job(request)
        self._requests = requests

    async def request_now(self, intent: Intent) -> LibraryAnswer:
        """Publish an intent at the present place, before what waits; its answer, a refusal if the place is lost."""
        answered: asyncio.Future[LibraryAnswer] = asyncio.get_running_loop().create_future()

        def take(answer: LibraryAnswer) -> None:
            if not answered.done():
                answered.set_result(answer)

        await self._send(_Request(intent, take), is_repeated=False)
        return await answered

    async def wait_lost(self, timeout_s: float) -> bool:
        """Wait until its place is lost; whether it is by then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._lost.wait()
        return self._lost.is_set()

    async def wait_back(self) -> bool:
        """Wait until it is opened again, if its place is lost; whether it was in time."""
        return not self.is_lost or await self._is_back()

    def query(self, call: ChannelCall, on_answer: OnAnswer) -> None:
        """Send a request outside the log when everything before it is answered."""

        async def query() -> None:
            await self._answered.wait()
            if self.is_lost:
                await self._is_back()
            try:
                on_answer(LibraryAnswer(await self.query_now(call)))
            except MafaldaError as error:
                on_answer(LibraryAnswer({}, refusal_of(error)))

        self.submit_job(query)

    async def query_now(self, call: ChannelCall) -> dict[str, Any]:
        """Send a request outside the log, whatever was requested before; the body of its answer.

        Raises:
            WorkerExited: The place is gone, or goes meanwhile.
            MafaldaError: The agent or the worker refuses it.
        """
        try:
            found = await run_unless_set(self._lost, self._fleet.query(self.room, self.peer, call), f"query {self}")
        except Interrupted:
            raise WorkerExited(_GONE) from None
        return body_of(found)

    def notify(self, notice: ChannelNotice) -> None:
        """Send a notification to one of its objects, when everything before it is answered."""
        if self._batch is not None:
            self._batch.append(notice)
            return
        batch = [notice]

        async def notify() -> None:
            await self._answered.wait()
            if self._batch is batch:
                self._batch = None
            while batch and not self.is_lost:
                first = first_batch(batch)
                del batch[: len(first)]
                try:
                    await self._fleet.publish_notices(self.room, self.peer, first)
                except MafaldaError as error:
                    _log.warning("notices lost", action="notices_lost", peer_id=self.peer, reason=str(error))

        self.submit_job(notify)
        self._batch = batch

    def leave(self, on_answer: OnAnswer, on_left: Callable[[], None] = lambda: None) -> None:
        """Leave the room, after everything before it.

        Args:
            on_answer: Called as soon as nothing of it is on a worker any more.
            on_left: Called when the fleet has removed the peer. That is later than ``on_answer`` if its worker dies in
                this moment: the fleet gives it another place, and it has to leave that too.
        """

        async def leave() -> None:
            if self._is_join_given_up and not self.is_ending:
                self._leave_when_placed(_Request(Leave(), _LeaveAnswer(on_answer, on_left)), on_left)
                return
            if self.is_ending or self._placement.placement is None:
                on_answer(LibraryAnswer({}))
                on_left()
                return
            self._placement.leave()
            await self._send(_Request(Leave(), _LeaveAnswer(on_answer, on_left)), is_repeated=True)

        self.submit_job(leave)

    def _leave_when_placed(self, request: _Request, on_left: Callable[[], None]) -> None:
        """Leave the place that the fleet may still give to a join that was given up; forget after ``LATE_JOIN_S``."""
        self._placement.leave()
        self._placement.send(request, is_repeated=True)
        self._placement.lose(1)
        self._note_interruption(request)

        def forget() -> None:
            if self._placement.withdraw(request):
                self._placement.end()
                on_left()

        asyncio.get_running_loop().call_later(LATE_JOIN_S, forget)

    async def wait_answered(self) -> None:
        """Return when everything that was requested before is answered."""
        if self._is_closed:
            return
        reached = asyncio.Event()

        async def reach() -> None:
            reached.set()

        self.submit_job(reach)
        await reached.wait()
        await self._answered.wait()

    def close(self) -> None:
        """Take no further place. What was requested before is still sent."""
        self._is_closed = True
        if self._reopening is not None:
            self._reopening.cancel()

    # --- in flight ------------------------------------------------------------------------------------

    async def _send(self, request: _Request, *, is_repeated: bool) -> None:
        self._placement.send(request, is_repeated=is_repeated)
        self._answered.clear()
        try:
            await self._fleet.submit(self.room, self.peer, request.intent, lambda answer: self._take(request, answer))
        except MafaldaError as error:
            self._take(request, answer_of(error))

    def _take(self, request: _Request, answer: LibraryAnswer) -> None:
        sent = self._placement.answer(request)
        if sent is None:
            return
        if not self._placement.has_requests:
            self._answered.set()
        if sent.is_repeated and answer.refusal is not None and answer.refusal.code in PLACE_GONE:
            is_placed_again = self._placement.interrupt(request, sent)  # else the report of the lost place is to come
            self._note_interruption(request)
            if is_placed_again:
                self._start_reopening()
        else:
            request.on_answer(answer)

    def _note_interruption(self, request: _Request) -> None:
        """Limit how long a request waits for the next place; a leave waits for as long as it takes."""
        if isinstance(request.on_answer, _LeaveAnswer):
            request.on_answer.report(LibraryAnswer({}))
        else:
            asyncio.get_running_loop().call_later(INTENT_TIMEOUT_S, self._withdraw, request)

    def _withdraw(self, request: _Request) -> None:
        if self._placement.withdraw(request):
            request.on_answer(LibraryAnswer({}, failed(_GONE)))

    # --- another place --------------------------------------------------------------------------------

    def lose(self) -> None:
        """Its place is gone: what is in flight is refused, or requested again at the next place."""
        interrupted = self._placement.lose(self._placement.generation + 1)
        self._lost.set()
        self._back.clear()
        if self._reopening is not None:
            self._reopening.cancel()
        self._answered.set()
        for request in interrupted.repeated:
            self._note_interruption(request)
        for request in interrupted.failed:
            request.on_answer(LibraryAnswer({}, failed(_GONE)))

    def move(self, placement: JoinResult) -> None:
        """It has another place: request there what it holds, if it is opened again, and what was interrupted."""
        self._placement.place(placement)
        self._start_reopening()

    def _start_reopening(self) -> None:
        running = self._reopening
        if running is None or running.done() or running.cancelling():
            self._reopening = self._fleet.tasks.spawn(self._reopen(), f"dropin reopens {self}")

    async def _reopen(self) -> None:
        is_kept = self.is_reopened and not self.is_ending
        if is_kept and self.remake is not None:
            await self.remake()
            is_kept = self.is_reopened and not self.is_ending
        elif is_kept:
            for intent in list(self.held.values()):
                await self._send(_Request(intent, self._note_refusal), is_repeated=False)
        while (request := self._placement.next_interrupted()) is not None:
            on_answer = request.on_answer
            if not isinstance(on_answer, _LeaveAnswer):
                on_answer = self._answered_again(request)
            await self._send(_Request(request.intent, on_answer), is_repeated=True)
        if is_kept and self._placement.reopened():
            self._lost.clear()
            self._back.set()
            _log.info("opened again elsewhere", action="session_reopened", room_id=self.room, peer_id=self.peer)

    def _answered_again(self, request: _Request) -> OnAnswer:
        """Takes the answer to a repeated request: the first one may have reached the new place before it was known."""

        def take(answer: LibraryAnswer) -> None:
            if answer.refusal is None or answer.refusal.code != AlreadyExists.code:
                request.on_answer(answer)
            elif isinstance(request.intent, CreateTransport):  # its answer is the transport's dump
                self.query(make_call("TRANSPORT_DUMP", request.intent.transport, None), request.on_answer)
            else:
                request.on_answer(LibraryAnswer({}))

        return take

    def _note_refusal(self, answer: LibraryAnswer) -> None:
        """Log that something held is not there again, such as a producer that died with the same worker."""
        if answer.refusal is not None:
            _log.info("not requested again", action="held_refused", peer_id=self.peer, reason=answer.refusal.reason)

    async def _is_back(self) -> bool:
        """Wait until it is opened again; whether it was in time."""
        if not self.is_reopened or self.is_ending:
            return False
        try:
            async with asyncio.timeout(REOPEN_TIMEOUT_S):
                await self._back.wait()
        except TimeoutError:
            return False
        return True


class _LeaveAnswer:
    """Takes the answer to a leave, and reports it at the first moment in which nothing is on a worker any more."""

    def __init__(self, on_answer: OnAnswer, on_left: Callable[[], None]) -> None:
        self._on_answer: OnAnswer | None = on_answer
        self._on_left = on_left

    def report(self, answer: LibraryAnswer) -> None:
        """Call ``on_answer``, once."""
        if self._on_answer is not None:
            on_answer, self._on_answer = self._on_answer, None
            on_answer(answer)

    def __call__(self, answer: LibraryAnswer) -> None:
        self.report(answer)
        self._on_left()
