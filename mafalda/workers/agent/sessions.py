"""The sessions of the peers that are placed on this server: started, ended, and reported when they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from mafalda.aio.serial_executor import SerialExecutor
from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import Message
from mafalda.errors import MafaldaError, WorkerExited
from mafalda.workers.core.instructions import AdoptPeer, Entry, EvictPeer, RelayKey
from mafalda.workers.core.stimuli import PeerRefused, PeerTaskFailed
from mafalda.workers.errors import as_mafalda_error
from mafalda.workers.peers.intents.producers import close_silently, yield_producer
from mafalda.workers.peers.intents.subscribed import look_again, look_at
from mafalda.workers.peers.session.eviction import evict
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.peers.session.services import PeerServices
from mafalda.workers.peers.session.session import PeerSession
from mafalda.workers.supervision.supervisor import LiveWorker

log = structlog.get_logger("mafalda.workers")
Key = tuple[str, str]  # room, peer


class PeerSessions:
    """Every session of one incarnation. Sessions of the same peer run one after the other.

    Args:
        services: What a session uses of the agent.
        worker: The living worker with an id; None if it is dead.
        handle_intent: Handles one intent of a session.
        reply_query: Replies to one query of a session.
    """

    def __init__(
        self,
        services: PeerServices,
        worker: Callable[[str], LiveWorker | None],
        *,
        handle_intent: Callable[[PeerSession, Entry], Awaitable[Outcome | None]],
        reply_query: Callable[[PeerSession, Delivery], Awaitable[Message]],
    ) -> None:
        self.services = services
        self._worker = worker
        self._handle_intent = handle_intent
        self._reply_query = reply_query
        self._runs: SerialExecutor[Key] = SerialExecutor(services.tasks, "peer")
        self.by_key: dict[Key, PeerSession] = {}
        self.handed_over: dict[Key, PeerSession] = {}

    def adopt(self, order: AdoptPeer) -> None:
        """Start a peer's session, after an earlier one of the same peer has ended."""
        command = order.command
        live = self._worker(command.worker)
        if live is None:
            error = WorkerExited("the worker is dead", worker=command.worker)
            self.services.report(PeerRefused(command.room, command.peer, command.generation, error))
            return
        session = PeerSession(
            self.services, live, order.entry, command, handle=self._handle_intent, answer_query=self._reply_query
        )
        key = (command.room, command.peer)
        if former := self.handed_over.get(key):
            former.end_handover()
        self.by_key[key] = session
        self._runs.submit(key, lambda: self._run(key, session, command))

    def drop(self, room: str, peer: str, reason: MafaldaError) -> None:
        """End a peer's session; what it is doing is finished first, and what waits is rejected with ``reason``."""
        if session := self.by_key.pop((room, peer), None):
            session.stop(reason)

    def hand_over(self, room: str, peer: str) -> None:
        """End a session, but for what it forwards: its client is about to move to another place."""
        key = (room, peer)
        if session := self.by_key.pop(key, None):
            self.handed_over[key] = session
            session.hand_over()

    def close_handed_over(self, room: str, peer: str, producer: str | None) -> None:
        """Close a producer of a session that was handed over, or end the session."""
        session = self.handed_over.get((room, peer))
        if session is None:
            return
        if producer is None:
            session.end_handover()
        else:
            name = f"close {producer} of {room} {peer}"
            self.services.tasks.spawn(close_silently(session, producer), name)

    def evict(self, order: EvictPeer) -> None:
        """Append that a peer whose placement failed has left."""
        command = order.command
        session = self.by_key.get((command.room, command.peer))
        if session is not None and session.generation == command.generation:
            self.drop(command.room, command.peer, order.error)
        room = self.services.rooms.room(command.room)
        known = room.peers.get(command.peer) if room else None
        audience = known.audience if known else command.audience
        self.services.tasks.spawn(
            evict(self.services.publisher, order, audience=audience), f"evict {command.room} {command.peer}"
        )

    def handle_intent(self, room: str, peer: str, entry: Entry) -> None:
        """Handle an intent, after those of the same peer before it."""
        if session := self.by_key.get((room, peer)):
            session.enqueue_intent(entry)

    def producer_opened(self, room: str, producer: str) -> None:
        """A producer was opened: subscriptions may want it."""
        self.services.audio_levels.producer_opened(room, producer)
        for session in self.services.subscribers.of(room):
            look_again(session, producer)

    def loudest_changed(self, room: str, producers: frozenset[str]) -> None:
        """Producers are among the loudest of a room, or are not any more."""
        for session in self.services.subscribers.of(room):
            look_at(session, *producers)

    def relay_changed(self, key: RelayKey) -> None:
        """A relay has opened, or was requested in vain: subscriptions of peers on its worker may want its producer.

        Consumes out of batches may too.
        """
        targets = self.services.relay_targets
        if targets.usable(key) is None and targets.waiters.is_waiting(key):
            self.services.relay_requests.need(key)
        for session in self.services.subscribers.of(key.room):
            if session.place.worker == key.worker:
                look_at(session, key.producer)

    def close_duplicate_producer(self, room: str, peer: str, producer: str) -> None:
        """Close a producer whose id another peer of the room had first."""
        if session := self.by_key.get((room, peer)):
            session.jobs.add(lambda: yield_producer(session, producer))

    async def _run(self, key: Key, session: PeerSession, command: PlacePeer) -> None:
        failure: Exception | None = None
        try:
            await session.run()
        except Exception as error:
            log.exception("session failed", action="session_failed", room_id=command.room, peer_id=command.peer)
            failure = error
        finally:
            for known in (self.by_key, self.handed_over):
                if known.get(key) is session:
                    del known[key]
        if failure is not None:
            failed = PeerTaskFailed(command.room, command.peer, command.generation, as_mafalda_error(failure))
            self.services.report(failed)
