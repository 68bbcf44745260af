"""Homes: each transport, observer and WebRtcServer of the application is a peer of the fleet with a place of its own.

A home does what is asked of it in the order in which the application asked. Until its object is there (an observer's
always) it comes back when its worker dies: what was asked of it and still holds is asked again in its next place. What
does not belong here: what a request means (``virtual_worker``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog

from mafalda.contract.messages.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.messages.intents import CreateTransport, Intent, Leave
from mafalda.contract.messages.notices import first_batch
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import JoinResult
from mafalda.dropin.fleet.fleet import Answer, Fleet, OnAnswer, make_call
from mafalda.dropin.virtual.errors import failed, refusal_of
from mafalda.errors import AlreadyExists, MafaldaError, WorkerDied

_GONE = "the worker that had this is gone"
#: For how long what is asked of something that has lost its place waits until it has another one, in seconds.
COME_BACK_WITHIN_S = 8.0
log = structlog.get_logger("mafalda.dropin")
Job = Callable[[], Awaitable[None]]


class _Unanswered(NamedTuple):
    """What was asked, if it is to be asked again elsewhere, and who is told of its answer."""

    intent: Intent | None
    on_answer: OnAnswer
    generation: int  # of the place where it was asked


class Home:
    """One peer.

    Args:
        fleet: Where it lives.
        room: The router's id.
        peer: The id of the transport, observer or WebRtcServer.
        what: Which of them, for people who look at the fleet.
    """

    def __init__(self, fleet: Fleet, room: str, peer: str, what: str) -> None:
        self._fleet = fleet
        self.room, self.peer, self.what = room, peer, what
        self.comes_back = True  # made again elsewhere when its worker dies; of transports only until they are there
        self.holds: dict[str, Intent] = {}  # what was granted and is to be asked again elsewhere, in order
        self.place: Place | None = None
        self.generation = 0
        self.listener: str | None = None  # the WebRtcServer that it uses
        self._lost = asyncio.Event()
        self.has_left = False
        self._is_closed = False
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._unanswered: dict[OnAnswer, _Unanswered] = {}
        self._interrupted: list[_Unanswered] = []
        self._back = asyncio.Event()
        self._returning: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._answered.set()
        self._batch: list[ChannelNotice] | None = None  # told together, if nothing else is asked in between
        self._task = asyncio.create_task(self._run(), name=f"home {peer}")

    @property
    def is_lost(self) -> bool:
        """Whether its place is gone."""
        return self._lost.is_set()

    # --- asking ---------------------------------------------------------------------------------------

    def join(self, then: Callable[[Answer], None]) -> None:
        """Become a peer, before anything else; ``then`` is told whether that worked."""

        async def join() -> None:
            try:
                joined = await self._fleet.join(self.room, self.peer, self.what)
            except MafaldaError as error:
                self._lost.set()
                self.comes_back = False
                then(Answer({}, refusal_of(error)))
                return
            self._settle(joined)
            then(Answer({}))

        self._post(join)

    def _settle(self, joined: JoinResult) -> None:
        self.place, self.generation = Place(server=joined.server, worker=joined.worker), joined.generation

    def first(self, job: Job) -> None:
        """Do something before the peer joins."""
        self._post(job)

    def last(self, done: asyncio.Future[None]) -> None:
        """Tell when everything before is in the log."""

        async def tell() -> None:
            if not done.done():
                done.set_result(None)

        self._post(tell)

    def want(self, intent: Intent, on_answer: OnAnswer) -> None:
        """Publish an intent after those before it; answers may come in any order."""

        async def want() -> None:
            if self.is_lost and not await self._has_come_back():
                on_answer(Answer({}, failed(_GONE)))
                return
            await self._intend(intent, self._await_one(on_answer, intent if self.comes_back else None))

        self._post(want)

    async def _intend(self, intent: Intent, answered: OnAnswer) -> None:
        try:
            await self._fleet.intend(self.room, self.peer, intent, answered)
        except MafaldaError as error:
            answered(Answer({}, refusal_of(error)))

    def ask(self, call: ChannelCall, on_answer: OnAnswer) -> None:
        """Ask something when everything before it is answered."""

        async def ask() -> None:
            await self._answered.wait()
            try:
                on_answer(Answer(await self.read(call)))
            except MafaldaError as error:
                on_answer(Answer({}, refusal_of(error)))

        self._post(ask)

    async def read(self, call: ChannelCall) -> dict[str, Any]:
        """What its place answers to a question; not in line with what was asked before.

        Raises:
            WorkerDied: The place is gone, or goes meanwhile.
            MafaldaError: Why not.
        """
        asking = asyncio.ensure_future(self._fleet.ask(self.room, self.peer, call))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((asking, lost), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise WorkerDied(_GONE)
            return asking.result()
        finally:
            asking.cancel()
            lost.cancel()

    def tell(self, notice: ChannelNotice) -> None:
        """Tell one of its objects something, after everything before it is done."""
        if self._batch is not None:
            self._batch.append(notice)
            return
        self._batch = batch = [notice]

        async def tell() -> None:
            await self._answered.wait()
            if self._batch is batch:
                self._batch = None
            while batch and not self.is_lost:
                told = first_batch(batch)
                del batch[: len(told)]
                try:
                    await self._fleet.tell(self.room, self.peer, told)
                except MafaldaError as error:
                    log.warning("not told", action="notice_lost", reason=str(error))

        self._jobs.put_nowait(tell)

    def leave(self, on_answer: OnAnswer, on_left: Callable[[], None] = lambda: None) -> None:
        """Stop being a peer, after everything before it.

        Args:
            on_answer: Told as soon as nothing of it is on a worker any more.
            on_left: Called when the fleet has forgotten it too: one whose worker dies in this moment is given another
                place, and has to leave that as well.
        """

        async def leave() -> None:
            if self.has_left or self.place is None:
                on_answer(Answer({}))
                on_left()
                return
            self.has_left = True
            await self._intend(Leave(), self._await_one(_Leaving(on_answer, on_left), Leave()))

        self._post(leave)

    async def settled(self) -> None:
        """Return when everything that was asked before is answered."""
        if self._is_closed:
            return
        reached = asyncio.Event()

        async def reach() -> None:
            reached.set()

        self._post(reach)
        await reached.wait()
        await self._answered.wait()

    def close(self) -> None:
        """Do what was asked before, and nothing more."""
        self._is_closed = True
        if self._returning is not None:
            self._returning.cancel()
        self._jobs.put_nowait(_nothing)

    def _post(self, job: Job) -> None:
        self._batch = None
        self._jobs.put_nowait(job)

    # --- inside ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not (self._is_closed and self._jobs.empty()):
            job = await self._jobs.get()
            try:
                await job()
            except Exception:
                log.exception("internal error", action="internal_error", peer_id=self.peer)

    def _await_one(self, on_answer: OnAnswer, intent: Intent | None = None) -> OnAnswer:
        """Count an answer that is to come; what is to be called with it, once."""

        def answered(answer: Answer) -> None:
            unanswered = self._unanswered.pop(answered, None)
            if unanswered is None:
                return
            if not self._unanswered:
                self._answered.set()
            if intent is not None and answer.refusal is not None and answer.refusal.code == WorkerDied.code:
                self._interrupt(unanswered)  # we are about to hear that our place is gone, or have heard already
                if self.generation > unanswered.generation:
                    self._return()
            else:
                on_answer(answer)

        self._unanswered[answered] = _Unanswered(intent, on_answer, self.generation)
        self._answered.clear()
        return answered

    # --- another place --------------------------------------------------------------------------------

    def lose(self) -> None:
        """Its place is gone; whoever waits for an answer hears so, or waits until it has come back."""
        self._lost.set()
        self._back.clear()
        if self._returning is not None:
            self._returning.cancel()
        for answered, unanswered in list(self._unanswered.items()):
            if unanswered.intent is not None:
                del self._unanswered[answered]
                self._interrupt(unanswered)
            else:
                answered(Answer({}, failed(_GONE)))
        if not self._unanswered:
            self._answered.set()

    def _interrupt(self, unanswered: _Unanswered) -> None:
        self._interrupted.append(unanswered)
        if isinstance(unanswered.on_answer, _Leaving):
            unanswered.on_answer.tell()

    def come_back(self, joined: JoinResult) -> None:
        """It has another place: ask there for all that it had, if it stays, and for what was interrupted."""
        self._settle(joined)
        self._return()

    def _return(self) -> None:
        returning = self._returning
        if returning is None or returning.done() or returning.cancelling():
            self._returning = asyncio.create_task(self._come_back(), name=f"home {self.peer} comes back")

    async def _come_back(self) -> None:
        stays = self.comes_back and not self.has_left
        for intent in list(self.holds.values()) if stays else []:
            await self._intend(intent, self._await_one(self._note_refusal))
        while self._interrupted:
            wish, on_answer, _ = self._interrupted.pop(0)
            assert wish is not None
            if not isinstance(on_answer, _Leaving):
                on_answer = self._asked_again(wish, on_answer)
            await self._intend(wish, self._await_one(on_answer, wish))
        if stays:
            self._lost.clear()
            self._back.set()
            log.info("made again elsewhere", action="home_came_back", room_id=self.room, peer_id=self.peer)

    def _asked_again(self, intent: Intent, on_answer: OnAnswer) -> OnAnswer:
        """Takes the second answer; the first time it may have reached the new place, before we knew of that."""

        def answered(answer: Answer) -> None:
            if answer.refusal is None or answer.refusal.code != AlreadyExists.code:
                on_answer(answer)
            elif isinstance(intent, CreateTransport):  # whose making is answered with its dump
                self.ask(make_call("TRANSPORT_DUMP", intent.transport, None), on_answer)
            else:
                on_answer(Answer({}))

        return answered

    def _note_refusal(self, answer: Answer) -> None:
        """Something that it had is not there again, such as a producer that died with the same worker."""
        if answer.refusal is not None:
            log.info("not made again", action="hold_refused", peer_id=self.peer, reason=answer.refusal.reason)

    async def _has_come_back(self) -> bool:
        if not self.comes_back:
            return False
        try:
            async with asyncio.timeout(COME_BACK_WITHIN_S):
                await self._back.wait()
        except TimeoutError:
            return False
        return True


class _Leaving:
    """Takes the answer to a leave, and tells of it as soon as that may be."""

    def __init__(self, on_answer: OnAnswer, on_left: Callable[[], None]) -> None:
        self._on_answer: OnAnswer | None = on_answer
        self._on_left = on_left

    def tell(self, answer: Answer | None = None) -> None:
        """Nothing of it is on a worker any more."""
        if self._on_answer is not None:
            on_answer, self._on_answer = self._on_answer, None
            on_answer(answer or Answer({}))

    def __call__(self, answer: Answer) -> None:
        self.tell(answer)
        self._on_left()


async def _nothing() -> None:
    """Wakes the queue."""


def ignore(_: Any) -> None:
    """An answer that nobody waits for."""
