"""What the API does: intents of peers, and requests to the auth service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import orjson

from mafalda.aio.tasks import TaskScope, cancel_and_wait, open_tasks
from mafalda.auth.requests import ask_auth_service
from mafalda.bus.nats.bus import NatsBus
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages import results
from mafalda.contract.messages.intents import Intent
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput
from mafalda.http.models import Ended
from mafalda.media.model import Model
from mafalda.monitor.live import LiveState, live_state
from mafalda.monitor.records import Record
from mafalda.projection.state import State
from mafalda.session.requests import NothingPrivate, RequestClient, RequestTimes, as_expected

_FOLD_TIMEOUT_S = 10.0


class Control:
    """Get one from ``open_control``.

    Args:
        bus: With the credential of an application, or of an operator.
        tasks: Owns repeated appends.
    """

    def __init__(self, bus: NatsBus, tasks: TaskScope) -> None:
        self.bus = bus
        self._live: LiveState | None = None
        self._tasks = tasks
        self._client = RequestClient(bus, tasks, None, "/mafalda/http", NothingPrivate(), RequestTimes())
        self._requested: dict[str, asyncio.Task[None]] = {}  # by the id of the intent, while it has no result

    @property
    def state(self) -> State:
        """The fleet as of now; for reading only."""
        assert self._live is not None
        return self._live.state

    async def fresh_state(self) -> State:
        """The fleet, with everything that is in the log by now.

        Raises:
            DeadlineExceeded: The log is not read in time.
        """
        assert self._live is not None
        await self._live.reached(await self.bus.last_seq(), timeout_s=_FOLD_TIMEOUT_S)
        return self._live.state

    def follow(self, live: LiveState) -> None:
        """Read from this state from now on."""
        self._live = live

    def take(self, entry: Record) -> None:
        """Take a result from the log."""
        address = entry.address
        if entry.message is not None and address is not None and address.kind == "result":
            self._client.take_stored(entry.message)

    # --- intents --------------------------------------------------------------------------------------

    async def request(self, room: str, peer: str, intent: Intent, key: str | None) -> None:
        """Publish an intent and await that it is done.

        Args:
            room: The room.
            peer: The peer whose intent it is.
            intent: What is wanted.
            key: A repetition with the same key gets the outcome of the first; ``None``: it is no repetition.

        Raises:
            MafaldaError: It was refused, for this reason.
            DeadlineExceeded: Nobody answered in time.
        """
        if key is None:
            await self._client.request(room, peer, intent, results.Done)
            return
        id = derived_id("http", key, room, peer, intent.action, intent.model_dump_json())
        running = self._requested.get(id)
        if running is None:
            running = self._tasks.spawn(self._request_once(room, peer, intent, id), f"request {id}")
            self._requested[id] = running
            running.add_done_callback(lambda _: self._requested.pop(id, None))
        await asyncio.shield(running)

    async def _request_once(self, room: str, peer: str, intent: Intent, id: str) -> None:
        """Request it, unless it has a result; look again when it is in the log, since another instance may be quicker.

        Its result may be stored after the first look and before this instance waits for it.
        """
        if await self._take_earlier(room, peer, intent, id):
            return
        stored = asyncio.Event()
        request = self._client.request(room, peer, intent, results.Done, id=id, stored=stored.set)
        requesting = self._tasks.spawn(request, f"await {id}")
        requesting.add_done_callback(lambda _: stored.set())
        try:
            await stored.wait()
            if requesting.done() or not await self._take_earlier(room, peer, intent, id):
                await requesting
        finally:
            await cancel_and_wait(requesting)

    async def _take_earlier(self, room: str, peer: str, intent: Intent, id: str) -> bool:
        """Whether the intent has been done; raises why it was refused."""
        async for delivery in self.bus.read(subjects.result(room, peer, intent.action)):
            try:
                _, message = read_message(delivery.subject, delivery.data)
            except BadInput:
                continue  # of a newer version; the answer to this intent is none
            if message.causationid == id:
                as_expected(message.data, results.Done)
                return True
        return False

    async def request_all(self, room: str, peer: str, wanted: Iterable[Intent], key: str | None) -> None:
        """As ``request``, for several at once.

        Raises:
            MafaldaError: The first one's that was refused.
        """
        outcomes = await asyncio.gather(
            *(self.request(room, peer, intent, key) for intent in wanted), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    # --- the auth service -----------------------------------------------------------------------------

    async def ask_auth(self, subject: str, request: Model) -> Ended:
        """Ask the auth service for something.

        Raises:
            MafaldaError: As ``ask_auth_service``.
        """
        data = orjson.dumps(request.to_json_dict())
        report = await ask_auth_service(self.bus.connection, subject, data)
        return Ended(tokens=report["tokens"], connections=report["connections"])


@asynccontextmanager
async def open_control(bus: NatsBus) -> AsyncIterator[Control]:
    """Follow the log while the block runs.

    Raises:
        BusUnavailable: At the end of the block, if the log could not be followed to the end.
    """

    def failed(_: str, __: Exception) -> None:
        """Whoever asked gets the error."""

    async with open_tasks(failed) as tasks:
        control = Control(bus, tasks)
        async with live_state(bus, control.take) as live:
            control.follow(live)
            yield control
