"""Everything that a decision is made from. Pure.

A view changes by one log entry, one load report or one tick at a time, and no change or decision scans all of it:
16,000 workers report every second. The same entries, reports and times give the same view.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet.candidates import WorkerView
from mafalda.allocator.core.fleet.fleet import FleetView
from mafalda.allocator.core.fleet.liveness import ServerLiveness
from mafalda.allocator.core.state.draining import Drains
from mafalda.allocator.core.state.open_intents import OpenIntents, ParkedIntents, Peer
from mafalda.allocator.core.state.refusals import Refusals
from mafalda.allocator.core.state.relay_requests import RelayRequests
from mafalda.allocator.core.state.room_owners import RoomOwners
from mafalda.allocator.core.state.rooms import Rooms
from mafalda.allocator.core.state.unplaced import UnplacedPeers
from mafalda.contract.messages.load import ServerLoad
from mafalda.projection.state import UNPLACED, PeerState, State


@dataclass(slots=True)
class View:
    """What an allocator knows, as of log sequence ``seq``. ``allocator`` is its own id.

    ``correlations`` has the correlation id of each peer's last placement, ``joining`` the log sequence of the join of
    each peer that was placed and has not joined at a place yet, ``changed_rooms`` the rooms that changed since their
    JSON was last written for a snapshot.
    """

    config: AllocatorConfig
    allocator: str = "allocator"
    counters: Counter[str] = field(default_factory=Counter)
    seq: int = 0
    state: State = field(default_factory=State)
    fleet: FleetView = field(init=False)
    liveness: ServerLiveness = field(init=False)
    owners: RoomOwners = field(init=False)
    rooms: Rooms = field(default_factory=Rooms)
    open_intents: OpenIntents = field(default_factory=OpenIntents)
    parked: ParkedIntents = field(default_factory=ParkedIntents)
    relay_requests: RelayRequests = field(default_factory=RelayRequests)
    unplaced: UnplacedPeers = field(default_factory=UnplacedPeers)
    drains: Drains = field(default_factory=Drains)
    correlations: dict[Peer, str] = field(default_factory=dict)
    joining: dict[Peer, int] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    changed_rooms: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.fleet = FleetView(self.config)
        self.liveness = ServerLiveness(self.fleet)
        self.owners = RoomOwners(self.allocator, self.config.allocator_timeout_s)

    def peer(self, peer: Peer) -> PeerState | None:
        """A peer by its room and id."""
        room = self.state.rooms.get(peer[0])
        return room.peers.get(peer[1]) if room else None

    def worker_of(self, peer: Peer) -> WorkerView | None:
        """The living worker of a peer."""
        found = self.peer(peer)
        return self.fleet.at(found.place) if found and found.status != UNPLACED else None

    def forget_before(self, first_seq: int) -> None:
        """Forget what ended before the log's first entry: idle rooms and servers."""
        self.rooms.forget_idle(first_seq)
        for server in [it for it in self.state.servers.values() if 0 < it.ended_seq < first_seq]:
            if not server.workers:
                del self.state.servers[server.server]
                self.fleet.forget(server.server)

    def begin(self, now: float) -> None:
        """The log's past has been read; from now on all entries are new."""
        self.liveness.begin(now)
        self._make_all_due(now)

    def report(self, load: ServerLoad, now: float) -> bool:
        """Take in a live load report; ``False`` if it is not from the incarnation that the log knows."""
        server = self.fleet.servers.get(load.server)
        first = server is not None and not server.reported
        counted = self.fleet.report(load, now)
        if counted and first:
            self._make_all_due(now)
        return counted

    def _make_all_due(self, now: float) -> None:
        """Everything pending in own rooms is decided at the next tick: it may have become possible."""
        for intent in self.open_intents:
            if self.owners.is_own(intent.peer[0]):
                intent.since_s = now - self.config.overdue_s
        for unplaced in self.unplaced:
            if self.owners.is_own(unplaced.room):
                unplaced.since_s = now - self.config.overdue_s
