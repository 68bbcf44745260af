"""Homes: each transport, observer and WebRtcServer of the application is a peer of the fleet with a place of its own.

A home does what is asked of it in the order in which the application asked. One that is worth it comes back when its
worker dies: what was asked of it and still holds is asked again in its next place. What does not belong here: what a
request means (``virtual_worker``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog

from mafalda.contract.channel_calls import ChannelCall, ChannelNotice
from mafalda.contract.errors import MafaldaError
from mafalda.contract.intents import Intent
from mafalda.contract.notices import first_batch
from mafalda.contract.payload import Place
from mafalda.contract.results import JoinResult
from mafalda.dropin.errors import failed, refusal_of
from mafalda.dropin.fleet import Answer, Fleet, OnAnswer

_GONE = "the worker that had this is gone"
#: For how long what is asked of something that has lost its place waits until it has another one, in seconds.
COME_BACK_WITHIN_S = 8.0
log = structlog.get_logger("mafalda.dropin")
Job = Callable[[], Awaitable[None]]


class _Unanswered(NamedTuple):
    """What was asked, if it is to be asked again elsewhere, and who is told of its answer."""

    intent: Intent | None
    on_answer: OnAnswer


class Home:
    """One peer.

    Args:
        fleet: Where it lives.
        room: The router's id.
        peer: The id of the transport, observer or WebRtcServer.
        what: Which of them, for people who look at the fleet.
        comes_back: Whether it is made again elsewhere when its worker dies.
    """

    def __init__(self, fleet: Fleet, room: str, peer: str, what: str, *, comes_back: bool = False) -> None:
        self._fleet = fleet
        self.room, self.peer, self.what = room, peer, what
        self.comes_back = comes_back
        self.holds: dict[str, Intent] = {}  # what was granted and is to be asked again elsewhere, in order
        self.place: Place | None = None
        self.generation = 0
        self.listener: str | None = None  # the WebRtcServer that it uses
        self.is_lost = False
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

    # --- asking ---------------------------------------------------------------------------------------

    def join(self, then: Callable[[Answer], None]) -> None:
        """Become a peer, before anything else; ``then`` is told whether that worked."""

        async def join() -> None:
            try:
                joined = await self._fleet.join(self.room, self.peer, self.what)
            except MafaldaError as error:
                self.is_lost, self.comes_back = True, False
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
            if self.is_lost:
                on_answer(Answer({}, failed(_GONE)))
                return
            try:
                on_answer(Answer(await self._fleet.ask(self.room, self.peer, call)))
            except MafaldaError as error:
                on_answer(Answer({}, refusal_of(error)))

        self._post(ask)

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

    def leave(self, on_answer: OnAnswer) -> None:
        """Stop being a peer, after everything before it."""

        async def leave() -> None:
            if self.has_left:
                on_answer(Answer({}))
                return
            self.has_left = True
            if self.place is None:
                on_answer(Answer({}))
                return
            answered = self._await_one(on_answer)
            try:
                await self._fleet.leave(self.room, self.peer, answered)
            except MafaldaError as error:
                answered(Answer({}, refusal_of(error)))

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
            if self._unanswered.pop(answered, None) is None:
                return
            if not self._unanswered:
                self._answered.set()
            on_answer(answer)

        self._unanswered[answered] = _Unanswered(intent, on_answer)
        self._answered.clear()
        return answered

    # --- another place --------------------------------------------------------------------------------

    def lose(self) -> None:
        """Its place is gone; whoever waits for an answer hears so, or waits until it has come back."""
        self.is_lost = True
        self._back.clear()
        if self._returning is not None:
            self._returning.cancel()
        for answered, unanswered in list(self._unanswered.items()):
            if unanswered.intent is not None:
                self._interrupted.append(unanswered)
                del self._unanswered[answered]
            else:
                answered(Answer({}, failed(_GONE)))
        if not self._unanswered:
            self._answered.set()

    def come_back(self, joined: JoinResult) -> None:
        """It has another place: ask there for all that it had, then for what was interrupted."""
        self._settle(joined)
        self._returning = asyncio.create_task(self._come_back(), name=f"home {self.peer} comes back")

    async def _come_back(self) -> None:
        for intent in list(self.holds.values()):
            await self._intend(intent, self._await_one(self._note_refusal))
        while self._interrupted:
            interrupted = self._interrupted.pop(0)
            assert interrupted.intent is not None
            await self._intend(interrupted.intent, self._await_one(interrupted.on_answer, interrupted.intent))
        self.is_lost = False
        self._back.set()
        log.info("made again elsewhere", action="home_came_back", room_id=self.room, peer_id=self.peer)

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


async def _nothing() -> None:
    """Wakes the queue."""


def ignore(_: Any) -> None:
    """An answer that nobody waits for."""
