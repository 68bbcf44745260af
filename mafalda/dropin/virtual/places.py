"""Places that are granted before a transport is asked for, so that making it is one request to its agent.

Such a place is a peer that has joined the router's room with a lease (``Join.lease_s``): an allocator has placed it and
reserves what it may cost, its agent has a router and a session for it, and it has no transport. It leaves when it is
not used in time, when its worker ends, and when the fleet has no capacity. Whatever happens to the drop-in, its agent
ends the lease (docs/decisions/0014-places-ahead.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog

from mafalda.contract.messages.payload import Place
from mafalda.dropin.fleet.answers import LibraryAnswer
from mafalda.dropin.fleet.object_session import ObjectSession

#: How long a place waits for a transport, in seconds.
KEPT_S = 8.0
#: For how long none is asked for after the fleet had no capacity, in seconds.
PAUSE_S = 10.0
#: The most participants of a router for whom places are at hand.
MOST_GROUPS = 8
_log = structlog.get_logger("mafalda.dropin")


@dataclass(slots=True)
class _Group:
    """The places of one participant, on one worker if possible."""

    until_s: float
    sessions: list[ObjectSession]


@dataclass(slots=True)
class _Stock:
    """What is at hand for one kind of transport of one router.

    ``begun`` are the places of the participant who has the newest transport, whose first place is that of peer
    ``first``. ``target`` is how many groups there should be: more, if they have run out.
    """

    size: int  # of a group
    target: int
    groups: list[_Group] = field(default_factory=list)
    begun: _Group | None = None
    first: str = ""
    timer: asyncio.TimerHandle | None = None

    def all(self) -> Iterator[_Group]:
        """Every group, the one in use first."""
        yield from ([self.begun] if self.begun else [])
        yield from self.groups


class PlacesAhead:
    """The places at hand for all routers of one virtual worker.

    Args:
        open_session: Makes a session for a kind of transport in a room, which is not used yet.
        give_back: Leaves with a session that was not used.
        transports_per_peer: How many WebRtcTransports a participant has.
        at_first: For how many participants of a router there are places at first; 0: never any.
    """

    def __init__(
        self,
        open_session: Callable[[str, str], ObjectSession],
        give_back: Callable[[ObjectSession], None],
        transports_per_peer: int,
        at_first: int,
    ) -> None:
        self._open_session = open_session
        self._give_back = give_back
        self._per_peer = transports_per_peer
        self._at_first = at_first
        self._stocks: dict[tuple[str, str], _Stock] = {}
        self._paused_until_s = 0.0

    def take(self, room: str, kind: str, beside: str | None) -> ObjectSession | None:
        """A place for a transport; ``None`` if there is none at hand. It may still be on its way.

        Args:
            room: The router's id.
            kind: Of transport, as the schema calls it.
            beside: The peer of the first transport of the same participant, if this is a further one.
        """
        stock = self._stocks.get((room, kind))
        if stock is None:
            return None
        self._give_back_late(stock, _now())  # this process may have stood still while its timer was due
        group = stock.begun
        if beside is not None:
            group = group if stock.first == beside else None
        elif not (group and group.sessions):
            group = stock.groups.pop(0) if stock.groups else None
        found = group.sessions.pop(0) if group and group.sessions else None
        if beside is None:
            stock.begun, stock.first = group, found.peer if found else ""
        if found is None and beside is None:
            stock.target = min(stock.target * 2, MOST_GROUPS)
        if found is not None:
            found.is_unused = False
        return found

    def refill(self, room: str, kind: str) -> None:
        """Ask for places for the next transports of a router, as many as are missing."""
        now = _now()
        if now < self._paused_until_s or not self._at_first:
            return
        size = self._per_peer if kind == "WebRtcTransport" else 1
        stock = self._stocks.setdefault((room, kind), _Stock(size, self._at_first))
        while len(stock.groups) < stock.target:
            stock.groups.append(self._ask(room, kind, size, now + KEPT_S))
        if stock.timer is None:
            self._arm(room, kind, stock)

    def _ask(self, room: str, kind: str, size: int, until_s: float) -> _Group:
        group = _Group(until_s, [])
        for _ in range(size):
            session = self._open_session(room, kind)
            session.is_unused = True
            session.beside = group.sessions[0].peer if group.sessions else None
            group.sessions.append(session)
        for session in group.sessions:
            self._join(session)
        return group

    def _join(self, session: ObjectSession) -> None:
        def joined(answer: LibraryAnswer) -> None:
            if answer.refusal is None:
                return
            if session.is_unused:
                _log.info("no place ahead", action="place_refused", peer_id=session.peer, reason=answer.refusal.reason)
                self.pause()
            else:
                session.on_refused(answer)

        session.join(joined)

    # --- giving back ----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Give all places back and ask for none for a while: the fleet has no capacity."""
        if _now() >= self._paused_until_s:  # else all were given back, and none was asked for since
            self._paused_until_s = _now() + PAUSE_S
            self.give_back(lambda _: True)

    def give_back_room(self, room: str) -> None:
        """A router is closed."""
        self.give_back(lambda session: session.room == room)
        for key in [key for key in self._stocks if key[0] == room]:
            if (timer := self._stocks.pop(key).timer) is not None:
                timer.cancel()

    def give_back_lost(self, is_lost: Callable[[Place], bool]) -> None:
        """Workers are gone."""
        self.give_back(lambda session: session.place is not None and is_lost(session.place))

    def give_back(self, is_given_back: Callable[[ObjectSession], bool]) -> None:
        """Give the places back for which this holds."""
        for stock in self._stocks.values():
            for group in stock.all():
                gone = [session for session in group.sessions if is_given_back(session)]
                group.sessions = [session for session in group.sessions if session not in gone]
                for session in gone:
                    self._give_back(session)
            stock.groups = [group for group in stock.groups if group.sessions]

    # --- time -----------------------------------------------------------------------------------------

    def _arm(self, room: str, kind: str, stock: _Stock) -> None:
        until_s = min((group.until_s for group in stock.all() if group.sessions), default=None)
        if until_s is None:
            stock.timer = None
            del self._stocks[room, kind]
            return
        stock.timer = asyncio.get_running_loop().call_at(until_s, self._expire, room, kind, stock)

    def _expire(self, room: str, kind: str, stock: _Stock) -> None:
        stock.target = self._at_first
        self._give_back_late(stock, _now())
        self._arm(room, kind, stock)

    def _give_back_late(self, stock: _Stock, now: float) -> None:
        """Give back what was not used in time: soon its agent ends the lease."""
        for group in stock.all():
            if group.until_s <= now:
                sessions, group.sessions = group.sessions, []
                for session in sessions:
                    self._give_back(session)
        stock.groups = [group for group in stock.groups if group.sessions]


def _now() -> float:
    return asyncio.get_running_loop().time()
