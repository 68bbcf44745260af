"""How many objects a peer may have, checked before one more is made."""

from __future__ import annotations

from mafalda.contract.messages import intents
from mafalda.contract.messages.payload import Payload
from mafalda.errors import TooManyConsumers, TooManyProducers, TooManyTransports
from mafalda.workers.peers.session.session import PeerSession


def check_limits(session: PeerSession, intent: Payload) -> None:
    """Refuse an intent that would give a peer, or its room, more objects than it may have.

    Raises:
        TooManyTransports: The peer has as many transports as it may have.
        TooManyProducers: The peer or the room has as many producers as it may have.
        TooManyConsumers: The peer has as many consumers as it may have.
    """
    limits, objects = session.limits, session.objects
    match intent:
        case intents.CreateTransport() if _is_reached(limits.transports, len(objects.transports)):
            raise TooManyTransports("the peer has too many transports", limit="transports", allowed=limits.transports)
        case intents.Produce() | intents.ProduceData():
            _check_producers(session)
        case intents.Consume() | intents.ConsumeData() if free_consumers(session, 1) == 0:
            raise too_many_consumers(session)


def _check_producers(session: PeerSession) -> None:
    limits, objects, most = session.limits, session.objects, session.services.config.room_producers
    if _is_reached(limits.producers, len(objects.producers) + len(objects.data_producers)):
        raise TooManyProducers("the peer has too many producers", limit="producers", allowed=limits.producers)
    room = session.services.rooms.room(session.room)
    if room is not None and _is_reached(most, len(room.producers)):
        raise TooManyProducers("the room has too many producers", limit="room_producers", allowed=most)


def free_consumers(session: PeerSession, wanted: int) -> int:
    """How many of so many wanted consumers the peer may have; those that wait for a relay count as there."""
    limit, objects = session.limits.consumers, session.objects
    if limit is None:
        return wanted
    return max(0, min(wanted, limit - len(objects.consumers.keys() | objects.reserved)))


def too_many_consumers(session: PeerSession) -> TooManyConsumers:
    """The error for a consumer beyond the peer's limit."""
    return TooManyConsumers("the peer has too many consumers", limit="consumers", allowed=session.limits.consumers)


def _is_reached(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit
