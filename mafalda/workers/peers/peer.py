"""A peer's place: its objects on one worker, and the one task that does what it wants, in order.

Whatever changes a peer passes through its queue, so that what is said of it in the log is said in the order in
which it happened. What does not belong here: each intent (``intents``, ``consuming``), queries (``queries``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.ids import derived_id
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import (
    ClosedReason,
    ConsumerClosed,
    DataConsumerClosed,
    Event,
    PeerJoined,
    PeerLeft,
    PeerMoved,
)
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.payload import Payload, Place
from mafalda.contract.messages.results import Done, JoinResult, Rejected, Result
from mafalda.errors import MafaldaError, NoCapacity, NotFound, NotJoined
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, Producer, Router, Transport, WebRtcTransport
from mafalda.telemetry.metrics import count_rejection
from mafalda.telemetry.tracing import handling
from mafalda.workers.core import Liveness
from mafalda.workers.core.instructions import Entry, RelayKey
from mafalda.workers.core.stimuli import PeerEnded, PeerReady, PeerRefused
from mafalda.workers.errors import as_contract_error
from mafalda.workers.peers.services import PeerServices
from mafalda.workers.relays.target import RelayTarget
from mafalda.workers.supervision.supervisor import LiveWorker

#: What a peer may have asked for and not yet got; more is refused.
MAX_QUEUED = 512
log = structlog.get_logger("mafalda.workers")
Work = Callable[[], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Heard:
    """A consumer or data consumer of the peer; ``mirror`` is the relay that feeds it, None at the origin."""

    consumer: Consumer | DataConsumer
    producer: str
    transport: str
    mirror: RelayTarget | None


@dataclass(slots=True)
class Outcome:
    """What came of an intent: the result, events for the room, and what only the asker may know."""

    result: Result
    events: list[Event] = field(default_factory=list)
    secret: Result | None = None
    secret_last: bool = False  # the asker may act only when the room knows


def done(actor: PeerActor, intent: Intent, target: str | None) -> Outcome:
    """Yes, and there is nothing more to say."""
    return Outcome(Done(intent=intent.action, target=target, generation=actor.generation))


Handler = Callable[["PeerActor", Entry], Awaitable[Outcome | None]]
QueryHandler = Callable[["PeerActor", Delivery], Awaitable[Message]]


class Guest(Protocol):
    """What a peer has for an application that speaks the worker's channel (``guests``)."""

    @property
    def observed(self) -> Mapping[str, tuple[str, str]]: ...

    async def close(self) -> None: ...


class PeerActor:
    """One placement of one peer.

    Args:
        services: What a session uses of the agent.
        live: The worker on which it is placed.
        entry: The command that placed it.
        command: The same, as what it is.
        handle: Does one intent.
        answer_query: Answers one query.
    """

    def __init__(
        self,
        services: PeerServices,
        live: LiveWorker,
        entry: Entry,
        command: PlacePeer,
        *,
        handle: Handler,
        answer_query: QueryHandler,
    ) -> None:
        self.services = services
        self.live = live
        self.command = command
        self._entry = entry
        self._handle = handle
        self._answer_query = answer_query
        self.room, self.peer, self.generation = command.room, command.peer, command.generation
        self.place = Place(server=command.server, worker=command.worker)
        self.transports: dict[str, Transport] = {}
        self.guest: Guest | None = None  # what an application that speaks the worker's channel has beyond that
        self.producers: dict[str, Producer] = {}
        self.data_producers: dict[str, DataProducer] = {}
        self.consumers: dict[str, Heard] = {}
        self.reserved: set[str] = set()  # consumers that wait for a relay
        self.liveness = Liveness(active_at=_now())
        self.is_over = False
        self._router: Router | None = None
        self._queue: asyncio.Queue[Work] = asyncio.Queue()

    @property
    def router(self) -> Router:
        """The room's router on the peer's worker."""
        assert self._router is not None, "the peer has its place before it is asked anything"
        return self._router

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be done."""
        return self._queue.empty() and not self.reserved

    def transport(self, transport: str) -> WebRtcTransport:
        """A transport of the peer.

        Raises:
            NotFound: It has no such one.
        """
        found = self.transports.get(transport)
        if isinstance(found, WebRtcTransport):
            return found
        raise NotFound("no such transport", transport=transport)

    # --- life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the place, do what is asked until it is over, close everything."""
        try:
            async with AsyncExitStack() as stack:
                await self._settle(stack)
                while not self.is_over:
                    work = await self._queue.get()
                    if not self.is_over:
                        await work()
        finally:
            await self._close()

    def end(self) -> None:
        """The place is over: what is being done is finished, nothing more is begun."""
        self.is_over = True
        self._queue.put_nowait(_nothing)

    def ask(self, entry: Entry) -> None:
        """Do an intent, after those before it."""
        self.liveness.note_activity(_now())
        if self._queue.qsize() >= MAX_QUEUED:
            error = NoCapacity("too much asked for at once", limit=MAX_QUEUED)
            self.services.tasks.spawn(self.reject(entry, error), f"reject {self.peer}")
            return
        self.post(lambda: self._do(entry))

    def post(self, work: Work) -> None:
        """Do something to this peer, after what was posted before it."""
        self._queue.put_nowait(lambda: _guarded(work, self.peer))

    async def _settle(self, stack: AsyncExitStack) -> None:
        services, command = self.services, self.command
        with handling(self._entry.message, "agent.place-peer", self._attributes()):
            intents = subjects.intent(self.room, self.peer, "*")
            stack.push_async_callback(services.log_reader.remove, intents)
            router, *others = await asyncio.gather(
                services.routers.acquire(self.room, self.live, self),
                services.log_reader.add(intents),
                services.log_reader.serve(stack, subjects.query(self.room, self.peer, "*"), handler=self._query),
                return_exceptions=True,
            )
            for error in (router, *others):
                if isinstance(error, MafaldaError):
                    self._not_placed(error)
                    return
                if isinstance(error, BaseException):
                    raise error
            self._router = router if isinstance(router, Router) else None
            await self._welcome()
            missed = await services.log_reader.past_intents(intents, after_seq=self._entry.seq)
            log.info("peer placed", action="peer_placed", **self._ids(), cause=command.cause)
        services.report(PeerReady(self.room, self.peer, self.generation, missed))

    async def _query(self, delivery: Delivery) -> Message:
        if self._router is None:
            raise NotJoined("the peer is about to get its place", peer=self.peer)
        self.liveness.note_activity(_now())  # a peer that only watches the room is there too
        return await self._answer_query(self, delivery)

    def _not_placed(self, error: MafaldaError) -> None:
        """The worker did not make what the session needs: the machine decides what becomes of the peer."""
        refusal = as_contract_error(error)
        log.error("peer not placed", action="peer_not_placed", **self._ids(), reason=str(refusal))
        self.is_over = True
        self.services.report(PeerRefused(self.room, self.peer, self.generation, refusal))

    async def _welcome(self) -> None:
        command, cause = self.command, self._entry.message
        event: Event
        if command.cause == "join":
            event = PeerJoined(
                peer=self.peer,
                server=self.place.server,
                worker=self.place.worker,
                generation=self.generation,
                app_data=command.app_data,
            )
        else:
            event = PeerMoved(
                peer=self.peer,
                server=self.place.server,
                worker=self.place.worker,
                generation=self.generation,
                cause=command.cause,
            )
        result = JoinResult(
            server=self.place.server,
            worker=self.place.worker,
            generation=self.generation,
            router_rtp_capabilities=self.router.rtp_capabilities,
        )
        await asyncio.gather(
            self.tell_room(event, cause, self._derived_id(cause, event.action)),
            self._tell_join(result),
        )

    async def _tell_join(self, result: Result) -> None:
        """Answer the join that this placement stems from."""
        message = self._entry.message
        await self._say(
            result, subjects.result(self.room, self.peer, "join"), message, self._derived_id(message, "result")
        )

    async def close_objects(self) -> None:
        """Close everything that the peer has on its worker."""
        for transport in list(self.transports.values()):
            try:
                await transport.close()
            except MafaldaError as error:
                log.warning("transport not closed", action="close_failed", **self._ids(), reason=str(error))
        if self.guest is not None:
            await self.guest.close()

    async def _close(self) -> None:
        await self.close_objects()
        self.services.routers.release(self.room, self.place.worker, self)

    # --- intents and their answers --------------------------------------------------------------------

    async def _do(self, entry: Entry) -> None:
        started = _now()
        message = entry.message
        action = message.data.action
        with handling(message, f"agent.{action}", self._attributes()):
            error = await self.attempt(entry, lambda: self._handle(self, entry))
            log.info(
                "intent handled",
                action="intent_handled",
                intent=action,
                **self._ids(),
                stream_seq=entry.seq,
                duration_s=round(_now() - started, 6),
                outcome=error.code if error else "done",
            )

    async def attempt(self, entry: Entry, work: Callable[[], Awaitable[Outcome | None]]) -> MafaldaError | None:
        """Do something for an intent and answer it, whatever happens. None as outcome: it is answered later."""
        try:
            if outcome := await work():
                await self.answer(entry, outcome)
            return None
        except MafaldaError as error:
            refusal = as_contract_error(error)
        except Exception:
            log.exception("internal error", action="internal_error", **self._ids(), stream_seq=entry.seq)
            refusal = MafaldaError("internal error", correlation_id=entry.message.correlation)
        await self.reject(entry, refusal)
        return refusal

    async def answer(self, entry: Entry, outcome: Outcome) -> None:
        """Say what came of an intent: to the room, to the log, to the asker's inbox."""
        message = entry.message
        if not outcome.secret_last:
            await self._whisper(entry, outcome)
        said = [
            self.tell_room(event, message, self._derived_id(message, event.action, number))
            for number, event in enumerate(outcome.events)
        ]
        await asyncio.gather(*said, self._answer(entry, outcome.result))
        if outcome.secret_last:
            await self._whisper(entry, outcome)

    async def _whisper(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.secret is not None and entry.reply is not None:
            await self.services.publisher.send_private(outcome.secret, entry.reply, cause=entry.message)

    async def reject(self, entry: Entry, error: MafaldaError) -> None:
        """Say no."""
        count_rejection("agent", entry.message.data.action, error.code)
        await self._answer(entry, Rejected(intent=entry.message.data.action, error=ErrorInfo.of(error)))

    async def _answer(self, entry: Entry, result: Result) -> None:
        message = entry.message
        subject = subjects.result(self.room, self.peer, message.data.action)
        await self._say(result, subject, message, self._derived_id(message, "result"))

    def _derived_id(self, message: Message, *parts: str | int) -> str:
        """The id of what follows from an intent of this peer, however often it is done."""
        return derived_id(self.room, self.peer, self.generation, message.id, *parts)

    async def tell_room(self, event: Event, cause: Message | None = None, id: str | None = None) -> None:
        """Tell everyone in the room."""
        await self._say(event, subjects.room_event(self.room, event.action), cause, id)

    async def tell_peer(self, event: Event) -> None:
        """Tell this peer what happened to what it has."""
        await self._say(event, subjects.peer_event(self.room, self.peer, event.action), None, None)

    async def _say(self, payload: Payload, subject: str, cause: Message | None, id: str | None) -> None:
        await self.services.publisher.append(payload, subject, cause=cause, id=id)

    # --- what happens to it ---------------------------------------------------------------------------

    def leave(self, reason: str) -> None:
        """The client has gone without a word."""

        async def leave() -> None:
            log.info("peer gone", action="peer_gone", **self._ids(), reason=reason)
            await self.tell_room(PeerLeft(peer=self.peer, generation=self.generation, reason="timed-out"))
            self.finish()

        self.post(leave)

    def finish(self) -> None:
        """It is not a peer any more."""
        self.end()
        self.services.report(PeerEnded(self.room, self.peer, self.generation))

    def adopt_consumer(self, id: str, heard: Heard) -> None:
        """The peer has a consumer: tell it, after whatever is being said now, if it ends unasked."""
        self.consumers[id] = heard

        def ended(cause: str) -> None:
            self.consumers.pop(id, None)
            key = RelayKey(self.room, heard.producer, self.place.worker)
            self.services.relay_targets.release(key, (self.peer, id))
            if cause in ("producerclose", "dataproducerclose") and not self.is_over:
                self.post(lambda: self._consumer_closed(id, heard))

        heard.consumer.on(heard.consumer.CLOSE, ended)

    async def _consumer_closed(self, id: str, heard: Heard) -> None:
        reason: ClosedReason = heard.mirror.state.reason if heard.mirror else "producer-closed"
        if isinstance(heard.consumer, DataConsumer):
            await self.tell_peer(
                DataConsumerClosed(
                    data_consumer=id, data_producer=heard.producer, generation=self.generation, reason=reason
                )
            )
        else:
            await self.tell_peer(
                ConsumerClosed(consumer=id, producer=heard.producer, generation=self.generation, reason=reason)
            )

    def note_connectedness(self) -> None:
        """A transport's ICE state may have changed."""
        connected = sum(
            isinstance(it, WebRtcTransport) and it.ice_state in ("connected", "completed")
            for it in self.transports.values()
        )
        self.liveness.note_connected(connected, _now())

    def _ids(self) -> dict[str, str]:
        return {
            "server_id": self.place.server,
            "worker_id": self.place.worker,
            "room_id": self.room,
            "peer_id": self.peer,
        }

    def _attributes(self) -> dict[str, str | int]:
        return {
            "mafalda.server": self.place.server,
            "mafalda.worker": self.place.worker,
            "mafalda.room": self.room,
            "mafalda.peer": self.peer,
            "mafalda.generation": self.generation,
        }


async def _nothing() -> None:
    """Wakes the queue."""


async def _guarded(work: Work, peer: str) -> None:
    try:
        await work()
    except Exception:
        log.exception("internal error", action="internal_error", peer_id=peer)


def _now() -> float:
    return asyncio.get_running_loop().time()
