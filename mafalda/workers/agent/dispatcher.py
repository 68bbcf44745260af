"""Which part of the agent executes which instruction."""

from __future__ import annotations

from collections.abc import Callable

from mafalda.errors import AlreadyExists
from mafalda.projection.state import RoomState
from mafalda.workers.agent.rooms import RoomLoader
from mafalda.workers.agent.sessions import PeerSessions
from mafalda.workers.core import instructions as do
from mafalda.workers.errors import place_gone
from mafalda.workers.relays.sources import RelaySources
from mafalda.workers.relays.targets import RelayTargets


class IncarnationLost(Exception):
    """The fleet has declared this incarnation lost."""


class Dispatcher:
    """Begins instructions. What takes time runs in tasks of the parts, which report what came of it.

    Args:
        server: This server's id.
        rooms: Loads and forgets rooms.
        sessions: The peers' sessions.
        relay_targets: The relays into this server's workers.
        relay_sources: The relays out of this server's workers.
        room: The fold of a room.
        end: Ends this incarnation with an exception.
    """

    def __init__(
        self,
        server: str,
        rooms: RoomLoader,
        sessions: PeerSessions,
        relay_targets: RelayTargets,
        relay_sources: RelaySources,
        *,
        room: Callable[[str], RoomState | None],
        end: Callable[[Exception], None],
    ) -> None:
        self._server = server
        self._rooms = rooms
        self._sessions = sessions
        self._relay_targets = relay_targets
        self._relay_sources = relay_sources
        self._room = room
        self._end = end

    def begin(self, instruction: do.Instruction) -> None:
        """Begin one instruction."""
        match instruction:
            case do.LoadRoom(room, delay_s):
                self._rooms.load(room, delay_s)
            case do.IdleRoom(room):
                self._relay_sources.room_gone(room)
                self._relay_targets.waiters.room_gone(room)
            case do.ForgetRoom(room):
                self._rooms.forget(room)
            case do.ResetIncarnation():
                self._end(IncarnationLost())
            case do.Superseded(incarnation):
                reason = "another agent runs under this server id"
                self._end(AlreadyExists(reason, server=self._server, incarnation=incarnation))
            case _ if isinstance(instruction, do.PeerInstruction):
                self._begin_for_peer(instruction)
            case _:
                self._begin_for_relay(instruction)

    def _begin_for_peer(self, instruction: do.PeerInstruction) -> None:
        match instruction:
            case do.HandleIntent(room, peer, entry):
                self._sessions.handle_intent(room, peer, entry)
            case do.AdoptPeer():
                self._sessions.adopt(instruction)
            case do.DropPeer(room, peer, reason=reason):
                self._sessions.drop(room, peer, place_gone(reason))
            case do.HandOverPeer(room, peer):
                self._sessions.hand_over(room, peer)
            case do.CloseHandedOver(room, peer, producer):
                self._sessions.close_handed_over(room, peer, producer)
            case do.EvictPeer():
                self._sessions.evict(instruction)
            case do.CheckSubscriptions(room, producer):
                self._sessions.producer_opened(room, producer)
            case do.CloseDuplicateProducer(room, peer, producer):
                self._sessions.close_duplicate_producer(room, peer, producer)

    def _begin_for_relay(self, instruction: do.RelayInstruction) -> None:
        match instruction:
            case do.OpenRelayTarget():
                self._relay_targets.open(instruction)
            case do.CloseRelayTarget(key, reason):
                self._relay_targets.close(key, reason)
            case do.ReconcileRelayTarget(key):
                self._relay_targets.reconcile(key)
            case do.RefuseRelay(command, entry, error):
                self._relay_targets.refuse(command, entry, error)
            case do.CloseRelaySource(room, producer, worker, target):
                self._relay_sources.stop(room, producer, worker, target)
            case do.ClosePipeSources(place):
                self._relay_sources.place_gone(place)
            case do.CheckRelayWaiters(room):
                self._relay_targets.waiters.check(room, self._room(room))
