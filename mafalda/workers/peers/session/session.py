"""A peer's session on its worker: take the place, do the peer's jobs one after the other, close.

Everything that changes a peer is a job in its session's queue, so the log has events and results in the order in which
they happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from mafalda.aio.retry import retrying
from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.batches import read_results
from mafalda.contract.grants import Grants
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.events import PeerJoined, PeerLeft, PeerMoved
from mafalda.contract.messages.intents import Leave, RequestChannel
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import QueryChannel, QueryEntries
from mafalda.contract.messages.results import JoinResult
from mafalda.contract.messages.subscriptions import Subscription
from mafalda.errors import BusUnavailable, MafaldaError, NoCapacity, NotGranted, NotJoined, RateLimited
from mafalda.mediasoup import Router, WebRtcTransport
from mafalda.telemetry.metrics import count_rejection
from mafalda.telemetry.tracing import handling
from mafalda.workers.core import PeerLiveness
from mafalda.workers.core.instructions import Entry
from mafalda.workers.core.rate_limits import IntentRate
from mafalda.workers.core.staleness import check_place
from mafalda.workers.core.statistics import StatisticsJournal
from mafalda.workers.core.stimuli import HandoverEnded, PeerEnded, PeerReady, PeerRefused
from mafalda.workers.core.subscriptions import SubscriptionBook, carried_over
from mafalda.workers.errors import as_contract_error, place_gone
from mafalda.workers.peers.session.handover import producers_left, wait_until_moved
from mafalda.workers.peers.session.intent_run import IntentRun
from mafalda.workers.peers.session.job_queue import JobQueue
from mafalda.workers.peers.session.objects import PeerObjects
from mafalda.workers.peers.session.placement import PeerPlacement
from mafalda.workers.peers.session.responses import Outcome, PeerResponder
from mafalda.workers.peers.session.services import PeerServices
from mafalda.workers.supervision.supervisor import LiveWorker

log = structlog.get_logger("mafalda.workers")
IntentHandler = Callable[["PeerSession", Entry], Awaitable[Outcome | None]]
QueryHandler = Callable[["PeerSession", Delivery], Awaitable[Message]]


class PeerSession:
    """One placement of one peer.

    Args:
        services: What a session uses of the agent.
        live: The worker on which the peer is placed.
        entry: The log entry of the command that placed it.
        command: That command.
        handle: Does one intent; ``None`` as outcome: it is answered later.
        answer_query: Answers one query.
    """

    def __init__(
        self,
        services: PeerServices,
        live: LiveWorker,
        entry: Entry,
        command: PlacePeer,
        *,
        handle: IntentHandler,
        answer_query: QueryHandler,
    ) -> None:
        self.services = services
        self.live = live
        self.command = command
        self.placement = PeerPlacement.of(command)
        self.room, self.peer, self.generation = command.room, command.peer, command.generation
        self.place = self.placement.place
        self.objects = PeerObjects(self.placement)
        self.jobs = JobQueue(self.peer, self._over_error)
        self.responder = PeerResponder(services.publisher, self.placement)
        self.app_data = command.app_data  # as it is now
        #: Whether it was of the audience before; ``None``: that is not known.
        self.promoted: bool | None = False if command.cause == "join" else None
        self.book = SubscriptionBook(self.peer, self.generation)
        self._wants_levels = False  # whether the wishes among the book's that need levels are counted
        self.is_reconciling = False  # whether a job for the subscriptions waits or runs
        self.statistics = StatisticsJournal(services.config.statistics_log_interval_s)
        self.liveness = PeerLiveness(active_at=services.now())
        self._entry = entry
        self._handle = handle
        self._answer_query = answer_query
        self._router: Router | None = None
        self._over_reason: MafaldaError | None = None
        self._handover: asyncio.Event | None = None  # set when it is over
        self.limits = services.config.peer_limits
        self._grants: Grants | None = None
        self._rate: IntentRate | None = None  # when the session has its place
        self._waiting: list[Entry] = []  # intents whose job has not begun
        self._waiting_job = 0  # its number
        self._batch_grants: tuple[Message, asyncio.Future[Grants | None]] | None = None  # of the last batch
        self._placed_seq = 0  # the log sequence of its ``join`` result

    @property
    def router(self) -> Router:
        """The room's router on the peer's worker."""
        assert self._router is not None, "the peer has its place before its first intent"
        return self._router

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, or ends after the job that runs now."""
        return self.jobs.is_closed

    @property
    def is_idle(self) -> bool:
        """Whether no job waits, and no consume waits for a relay."""
        return self.jobs.is_empty and not self.objects.reserved

    # --- life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the place, do jobs until the session is over, close everything."""
        try:
            async with AsyncExitStack() as stack:
                await self._take_place(stack)
                await self.jobs.run()
            self.jobs.skip_all()  # a handover takes longer than what waits may
            await self._finish_handover()
        finally:
            self.jobs.skip_all()
            await self.objects.close()
            self.services.subscribers.remove(self)
            for wish in self.book.wishes.values() if self._wants_levels else ():
                if wish.loudest is not None:
                    self.services.audio_levels.unwant(self.room, wish.loudest)
            self.services.routers.release(self.room, self.place.worker, self)
            if self._handover is not None:
                self.services.report(HandoverEnded(self.room, self.peer, self.generation))

    def stop(self, reason: MafaldaError | None = None) -> None:
        """End the session after the job that runs now; jobs behind it are not done, and intents among them rejected.

        Args:
            reason: The error of those intents; ``None``: the peer has no place here any more.
        """
        self._over_reason = self._over_reason or reason
        self.jobs.close()

    def hand_over(self) -> None:
        """End the session after the job that runs now, but go on forwarding until the client has moved."""
        self._handover = asyncio.Event()
        self.stop(place_gone("peer-moved"))

    def end_handover(self) -> None:
        """Forward nothing any more."""
        if self._handover is not None:
            self._handover.set()

    async def _finish_handover(self) -> None:
        """Wait until the client of a peer that was handed over has moved; report the producers that it left here."""
        if self._handover is None:
            return
        log.info("peer handed over", action="peer_handed_over", **self.placement.log_fields)
        await wait_until_moved(self.objects, self._handover, self.services.config.handover_s)
        for event in producers_left(self.placement, self.objects):
            await self.responder.append_room_event(event)

    def joined_event(self) -> PeerJoined:
        """The event that says that the peer is in the room."""
        return PeerJoined(
            peer=self.peer,
            server=self.place.server,
            worker=self.place.worker,
            generation=self.generation,
            app_data=self.app_data,
            audience=self.responder.audience,
        )

    def lacks_promotion(self, grants: Grants) -> bool:
        """Whether the peer is more than audience, though it was granted no more and nobody has promoted it."""
        return grants.audience and not self.responder.audience and self.promoted is False

    def remove_peer(self) -> None:
        """End the session because the peer has left the room, and report that to the agent's machine."""
        self.stop()
        self.services.report(PeerEnded(self.room, self.peer, self.generation))

    def time_out(self, reason: str) -> None:
        """Remove the peer after the jobs before, because its client is gone without a leave."""

        async def leave() -> None:
            log.info("peer gone", action="peer_gone", **self.placement.log_fields, reason=reason)
            left = PeerLeft(peer=self.peer, generation=self.generation, reason="timed-out")
            await self.responder.append_room_event(left)
            self.remove_peer()

        self.jobs.add(leave)

    # --- jobs ---------------------------------------------------------------------------------------

    def enqueue_intent(self, entry: Entry) -> None:
        """Do an intent after the jobs before it.

        It is rejected if the peer sends too much, if too many wait, or if the session ends before. A peer that sends
        far too much is removed from its room: its refusals would fill the log.
        """
        now = self.services.now()
        self.liveness.note_activity(now)
        if self.is_over:
            self.reject(entry)
            return
        try:
            if self._rate is not None and not self._is_exempt(entry.message.data):
                self._rate.take(entry.size_bytes, now, self.services.room_rates.of(self.room))
            waiting = self._waiting if self._is_last_job else []
            self.jobs.check_room(len(waiting))
        except (RateLimited, NoCapacity) as error:
            self.reject(entry, error)
            if self._rate is not None and self._rate.is_flooding:
                self._evict(error)
            return
        waiting.append(entry)
        if len(waiting) > 1:
            return
        self._waiting = waiting
        self.jobs.add(lambda: self._handle_intents(waiting), lambda: self._reject_all(waiting))
        self._waiting_job = self.jobs.added

    @property
    def _is_last_job(self) -> bool:
        """Whether no job was added after that of the intents that wait."""
        return bool(self._waiting) and self._waiting_job == self.jobs.added

    def _reject_all(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.reject(entry)

    def reject(self, entry: Entry, error: MafaldaError | None = None) -> None:
        """Reject an intent outside the queue; ``None`` as error: because the session is over."""
        self.services.tasks.spawn(self.responder.reject(entry, error or self._over_error()), f"reject {self.peer}")

    def _is_exempt(self, data: Payload) -> bool:
        """Whether an intent is not counted: what ends a flood, or a call of an application's channel."""
        return isinstance(data, Leave) or (self._grants is None and _is_channel_call(data))

    def _evict(self, error: MafaldaError) -> None:
        """Remove the peer from the room."""
        log.warning("peer floods", action="peer_floods", **self.placement.log_fields, reason=str(error))
        self.stop(error)
        self.services.report(PeerRefused(self.room, self.peer, self.generation, error))

    async def _handle_intents(self, entries: list[Entry]) -> None:
        if self._waiting is entries:
            self._waiting = []
        run = IntentRun(
            self.responder, self._attempt, lambda: self.is_over, lambda entry: self.reject(entry), self._free_consumers
        )
        await run.do(entries)

    def _free_consumers(self) -> int | None:
        limit = self.limits.consumers
        return None if limit is None else limit - len(self.objects.consumers.keys() | self.objects.reserved)

    async def _attempt(self, entry: Entry) -> Outcome | MafaldaError | None:
        """Do one intent; its outcome or error is not published yet."""
        started_s = _now()
        action = entry.message.data.action
        with handling(entry.message, f"agent.{action}", self.placement.trace_attributes):
            outcome = await self.responder.outcome_of(entry, lambda: self._do(entry))
            log.info(
                "intent handled",
                action="intent_handled",
                intent=action,
                **self.placement.log_fields,
                stream_seq=entry.seq,
                duration_s=round(_now() - started_s, 6),
                outcome=outcome.code if isinstance(outcome, MafaldaError) else "done",
            )
            return outcome

    async def _do(self, entry: Entry) -> Outcome | None:
        if entry.error is not None:
            raise entry.error
        check_place(entry, self.command, self._placed_seq)
        return await self._handle(self, entry)

    async def granted_now(self, batch: Message | None) -> Grants | None:
        """What the peer was granted last; read once for all intents of a batch.

        Raises:
            BusUnavailable: It cannot be read now.
        """
        if batch is None:
            return await self.services.grants(self.room, self.peer)
        if self._batch_grants is None or self._batch_grants[0] is not batch:
            reading = asyncio.ensure_future(self.services.grants(self.room, self.peer))
            self._batch_grants = (batch, reading)
        return await self._batch_grants[1]

    async def _serve_query(self, delivery: Delivery) -> Message | None:
        self.liveness.note_activity(self.services.now())  # a peer that only watches the room is there too
        if delivery.subject.endswith(f".{QueryEntries.action}"):
            return None  # one of all agents replies
        if self._router is None:
            raise NotJoined("the peer is about to get its place", peer=self.peer)
        if self.is_over:
            raise self._over_error()
        if self._grants is not None or not delivery.subject.endswith(f".{QueryChannel.action}"):
            self._take_query()
        return await self._answer_query(self, delivery)

    def _take_query(self) -> None:
        """Count one query.

        Raises:
            RateLimited: The peer sends too many.
        """
        try:
            self.services.query_rates.take((self.room, self.peer), self.limits.queries_per_s)
        except RateLimited as error:
            count_rejection("agent", "query", error.code)
            raise

    def _over_error(self) -> MafaldaError:
        return self._over_reason or NotJoined("the peer has no place here any more", peer=self.peer)

    def update_connectedness(self) -> None:
        """Count the transports that are connected; called when the ICE state of one may have changed."""
        connected = sum(
            isinstance(it, WebRtcTransport) and it.ice_state in ("connected", "completed")
            for it in self.objects.transports.values()
        )
        self.liveness.note_connected(connected, self.services.now())

    # --- taking the place -----------------------------------------------------------------------------

    async def _take_place(self, stack: AsyncExitStack) -> None:
        """Get a router, subscribe to intents and queries, append the result, and report the session as ready."""
        services = self.services
        with handling(self._entry.message, "agent.place-peer", self.placement.trace_attributes):
            followed = subjects.intent(self.room, self.peer, "*")
            stack.push_async_callback(services.log_reader.remove, followed)
            router, *others = await asyncio.gather(
                services.routers.acquire(self.room, self.live, self),
                self._read_grants(),
                services.log_reader.add(followed),
                services.log_reader.serve(stack, subjects.query(self.room, self.peer, "*"), handler=self._serve_query),
                return_exceptions=True,
            )
            for error in (router, *others):
                if isinstance(error, MafaldaError):
                    self._report_refused(error)
                    return
                if isinstance(error, BaseException):
                    raise error
            self._router = router if isinstance(router, Router) else None
            self._rate = services.intent_rates.of((self.room, self.peer), self.limits)
            room = services.rooms.room(self.room)
            if room and (known := room.peers.get(self.peer)):
                # They may have changed since the command was decided.
                self.responder.audience, self.app_data = known.audience, known.app_data
                self.promoted = known.promoted
            if self._grants and self.lacks_promotion(self._grants):
                self._report_refused(NotGranted("the token permits to join as audience only", peer=self.peer))
                return
            missed, wishes, _ = await asyncio.gather(
                self._read_missed(), self._read_subscriptions(), self._report_placed()
            )
            log.info("peer placed", action="peer_placed", **self.placement.log_fields, cause=self.command.cause)
        for wish in wishes:
            self.book.subscribe(wish)
        if wishes:
            services.subscribers.add(self)
        for wish in self.book.wishes.values():
            if wish.loudest is not None:
                services.audio_levels.want(self.room, wish.loudest)
        self._wants_levels = True
        services.report(PeerReady(self.room, self.peer, self.generation, missed))

    async def _read_grants(self) -> None:
        """Read what the peer was granted, and so the limits that it has at this place."""
        async for attempt in retrying(BusUnavailable, action="grants_retried", peer_id=self.peer):
            with attempt:
                self._grants = await self.services.grants(self.room, self.peer)
        self.limits = self.limits.narrowed(self._grants.limits if self._grants else None)

    async def _read_missed(self) -> list[Entry]:
        """The peer's intents from before its session followed them: since its placement, or since its join.

        What an earlier place of a peer that had not joined yet has answered is left out.
        """
        reader, command = self.services.log_reader, self.command
        missed = await reader.past_of_peer(
            subjects.intent(self.room, self.peer, "*"), after_seq=command.join_seq or self._entry.seq
        )
        if not missed or command.join_seq is None or command.cause == "join":
            return missed
        results = await reader.past(
            subjects.result(self.room, self.peer, "*"),
            after_seq=command.join_seq,
            up_to_seq=await reader.last_seq(),
        )
        answered = {
            message.causationid for entry in results for _, message in read_results(entry.address, entry.message)
        }
        return [left for entry in missed if (left := entry.without(answered)) is not None]

    async def _read_subscriptions(self) -> list[Subscription]:
        """The peer's subscriptions at its former place, up to the command that ended it, if it may still subscribe."""
        command, found = self.command, self.command.subscriptions
        if command.subscriptions_seq is not None:
            later = await self.services.log_reader.past_of_peer(
                subjects.result(self.room, self.peer, "*"), after_seq=command.subscriptions_seq
            )
            results = (
                message.data
                for entry in later
                if entry.seq < self._entry.seq
                for _, message in read_results(entry.address, entry.message)
            )
            found = carried_over(command, results)
        if not found:
            return []
        if self._grants is None or self._grants.subscribe:
            return found
        log.info("subscriptions not granted", action="subscriptions_ended", **self.placement.log_fields)
        return []

    def _report_refused(self, error: MafaldaError) -> None:
        """The worker did not make what the session needs: the agent's machine decides what becomes of the peer."""
        refusal = as_contract_error(error)
        log.error("peer not placed", action="peer_not_placed", **self.placement.log_fields, reason=str(refusal))
        self.stop(refusal)
        self.services.report(PeerRefused(self.room, self.peer, self.generation, refusal))

    async def _report_placed(self) -> None:
        """Append the join's result, and for the room that the peer has joined or moved."""
        command, cause = self.command, self._entry.message
        server, worker, generation = self.place.server, self.place.worker, self.generation
        event: PeerJoined | PeerMoved
        if command.cause == "join":
            event = self.joined_event()
        else:
            event = PeerMoved(
                peer=self.peer,
                server=server,
                worker=worker,
                generation=generation,
                cause=command.cause,
                handover=command.handover,
            )
        result = JoinResult(
            server=server,
            worker=worker,
            generation=generation,
            router_rtp_capabilities=self.router.rtp_capabilities,
            handover=command.handover,
        )
        _, self._placed_seq = await asyncio.gather(
            self.responder.append_room_event(event, cause),
            self.responder.append_result(result, "join", cause),
        )


def _is_channel_call(data: Payload) -> bool:
    return isinstance(data, RequestChannel) or getattr(data, "channel", None) is not None


def _now() -> float:
    return asyncio.get_running_loop().time()
