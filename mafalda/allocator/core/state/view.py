"""All that a decision is made from: the log's state, the loads, what is reserved, what is open. Pure.

Changed by log entries, load reports and the passing of time, one at a time, and never by a look at
all of it: 16,000 workers report, and a decision must not wait for that. The same entries, reports
and times give the same view. What does not belong here: choosing (``policy``), deciding (``decide``).

Results are not folded into the state: whose transport is where changes no placement. What they
opened counts as reserved until a report shows it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.state.candidates import ServerView, WorkerView
from mafalda.allocator.core.state.entries import Entry
from mafalda.allocator.core.state.fleet import Fleet
from mafalda.allocator.core.state.open_intents import Homeless, OpenIntent, OpenIntents, Peer, Standing
from mafalda.allocator.core.state.rooms import RoomView
from mafalda.contract.messages import commands, events
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.projection.fold import apply
from mafalda.projection.state import PeerState, State

#: Why the peers of a worker have no place any more, by what ended it.
_CAUSES: dict[type[events.Event], commands.PlacementCause] = {
    events.WorkerDied: "worker-died",
    events.ServerLost: "server-lost",
    events.ServerStarted: "server-restarted",
    events.ServerStopped: "drain",
}
ServerEvent = (
    events.ServerStarted
    | events.ServerStopped
    | events.ServerLost
    | events.ServerDraining
    | events.WorkerStarted
    | events.WorkerDied
)

#: Parked intents are looked through for closed ones when there are more than this.
_MANY_PARKED = 1_000


@dataclass(slots=True)
class View:
    """What an allocator knows. ``seq`` is the last log entry in it."""

    config: AllocatorConfig
    fleet: Fleet = field(init=False)
    seq: int = 0
    state: State = field(default_factory=State)
    rooms: dict[str, RoomView] = field(default_factory=dict)
    open: OpenIntents = field(default_factory=OpenIntents)
    homeless: dict[Peer, Homeless] = field(default_factory=dict)
    correlations: dict[Peer, str] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    grace_until_s: float = 0.0
    begun: bool = False
    _resting: dict[str, tuple[int, int]] = field(default_factory=dict)  # empty rooms: command_seq, floor
    _parked: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    _woken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.config)

    # --- looking up ------------------------------------------------------------------------------

    def peer(self, peer: Peer) -> PeerState | None:
        """A peer, by room and id."""
        room = self.state.rooms.get(peer[0])
        return room.peers.get(peer[1]) if room else None

    def room(self, room: str) -> RoomView:
        """What is kept of a room; empty for one that nobody spoke of."""
        if found := self.rooms.get(room):
            return found
        command_seq, floor = self._resting.get(room, (0, 0))
        return RoomView(command_seq=command_seq, floor=floor)

    def correct(self, room: str, command_seq: int) -> None:
        """The log says that this is the last sequence of a room's commands, and it is not past ours.

        So it is older than what we saw, and what we saw has expired from the log.
        """
        self._room(room).command_seq = command_seq

    # --- time ------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The log's past is in; from now on everything is news."""
        self.begun = True
        self._look_at_all_again(now)
        self.hear_again(now)

    def go_deaf(self) -> None:
        """We cannot hear ourselves: until ``hear_again``, silence says nothing of others."""
        self.grace_until_s = float("inf")

    def hear_again(self, now: float) -> None:
        """We were deaf until now (just started, cut off, suspended): nobody is lost for that."""
        self.grace_until_s = now + self.config.grace_s
        self.fleet.hear_again(now)

    def tick(self, now: float) -> None:
        """Time passed."""
        if self.begun:
            self.fleet.tick(now)

    def lost_servers(self, now: float) -> list[ServerView]:
        """The servers to be declared lost."""
        return self.fleet.lost(now) if self.begun and now >= self.grace_until_s else []

    def report(self, load: ServerLoad, now: float) -> bool:
        """A live load report; ``False`` if it is of an incarnation that the log does not know (any more)."""
        server = self.fleet.servers.get(load.server)
        first = server is not None and not server.reported
        counted = self.fleet.report(load, now)
        if counted and first:
            self._look_at_all_again(now)
        return counted

    def _look_at_all_again(self, now: float) -> None:
        """What waits may have become possible: all of it is due."""
        for intent in self.open:
            intent.since_s = now - self.config.overdue_s
        for homeless in self.homeless.values():
            homeless.since_s = now - self.config.overdue_s

    # --- open work -------------------------------------------------------------------------------

    def park(self, intent: OpenIntent, producer: str) -> None:
        """Decide this again as soon as a relay of the producer opens or ends."""
        if len(self._parked) > _MANY_PARKED:
            self._parked = {
                key: kept for key, seqs in self._parked.items() if (kept := {seq for seq in seqs if self.open.get(seq)})
            }
        self._parked.setdefault((intent.peer[0], producer), set()).add(intent.seq)

    def take_woken(self) -> list[int]:
        """The intents to be decided again, since last asked."""
        woken, self._woken = self._woken, []
        return woken

    # --- the log ---------------------------------------------------------------------------------

    def pass_over(self, seq: int) -> None:
        """A log entry that changes nothing here."""
        self.seq = self.state.seq = max(seq, self.seq)

    def fold(self, entry: Entry, now: float) -> None:
        """Take in one log entry.

        Each is given once, in log order; one that a hole in the fast lane held up is taken in late.
        """
        self.pass_over(entry.seq)
        address = entry.address
        if entry.error:
            self.counters[f"unreadable-{address.kind}"] += 1
        if address.kind == "command" and address.room:
            room = self._room(address.room)
            room.command_seq = max(entry.seq, room.command_seq)
            self.fleet.release(entry.id)
        if address.kind == "intent":
            self._intent(entry, now)
        elif address.kind == "result":
            self._result(entry)
        elif entry.message:
            self._apply(entry, entry.message.data, now)

    def _apply(self, entry: Entry, payload: Payload, now: float) -> None:
        match payload:
            case commands.PlacePeer():
                self._place_peer(entry, payload, now)
            case commands.OpenRelay():
                self._open_relay(entry, payload)
            case events.LoadSampled():
                self.fleet.report(payload.load, now, live=False)
            case (
                events.ServerStarted()
                | events.ServerStopped()
                | events.ServerLost()
                | events.ServerDraining()
                | events.WorkerStarted()
                | events.WorkerDied()
            ):
                self._server_changed(entry, payload, now)
            case events.PeerLeft():
                self._peer_left(entry, payload)
            case events.PeerStranded():
                if homeless := self.homeless.get((entry.address.room or "", payload.peer)):
                    homeless.stranded = True
            case _:
                self._contract_fold(entry, payload)
                self._room_event(entry, payload, now)

    def _contract_fold(self, entry: Entry, payload: Payload) -> None:
        apply(self.state, entry.seq, entry.address, payload)

    def _room_event(self, entry: Entry, payload: Payload, now: float) -> None:
        room = entry.address.room or ""
        match payload:
            case events.ProducerOpened():
                self._reserve(entry.seq, (room, payload.peer), payload.generation, self.config.costs.producer)
            case events.DataProducerOpened():
                self._reserve(entry.seq, (room, payload.peer), payload.generation, self.config.costs.data)
            case events.RelayOpened() | events.RelayFailed() | events.RelayClosed():
                self._woken += sorted(self._parked.pop((room, payload.producer), ()))
                if isinstance(payload, events.RelayFailed):
                    self._let_agents_reject(room, now)

    def _let_agents_reject(self, room: str, now: float) -> None:
        """A relay failed: its agent is about to reject the consumes that waited for it; only later try again."""
        for intent in self.open:
            if intent.peer[0] == room:
                intent.since_s = now

    # --- peers -----------------------------------------------------------------------------------

    def _place_peer(self, entry: Entry, command: commands.PlacePeer, now: float) -> None:
        who = (command.room, command.peer)
        before = self._worker_of(who)
        self._contract_fold(entry, command)
        self._moved(who, before)
        self.open.answered(who, command.join)
        if self.begun:
            self._room(command.room).placed_s = now
        peer = self.peer(who)
        if peer is None or peer.generation != command.generation:
            return
        self._drop_placed(who)
        if entry.message:
            self.correlations[who] = entry.message.correlation
        if worker := self._worker_of(who):
            self.homeless.pop(who, None)
            worker.ledger.advance(
                entry.seq, who, self.config.micro(self.config.costs.advance(one_transport=command.one_transport))
            )
            self.fleet.touch(worker)
        else:
            cause: commands.PlacementCause = "worker-died" if command.cause == "join" else command.cause
            self.homeless[who] = Homeless(*who, entry.seq, now, cause, entry.message)

    def _peer_left(self, entry: Entry, event: events.PeerLeft) -> None:
        who = (entry.address.room or "", event.peer)
        before = self._worker_of(who)
        known = self.peer(who)
        self._contract_fold(entry, event)
        if known is None or self.peer(who):
            return
        self._moved(who, before)
        self._drop_placed(who)
        self.homeless.pop(who, None)
        self.correlations.pop(who, None)
        room = self._room(who[0])
        room.leave(event.peer, known.generation)
        if who[0] not in self.state.rooms:
            del self.rooms[who[0]]
            self._resting[who[0]] = room.rest()

    def _moved(self, who: Peer, before: WorkerView | None) -> None:
        after = self._worker_of(who)
        if before is after:
            return
        room = self._room(who[0])
        if before:
            room.detach(before.key)
            before.ledger.forget(who)
            self.fleet.touch(before)
        if after:
            room.attach(after.key)

    def _drop_placed(self, who: Peer) -> None:
        """What a peer asked of its former place is for its client to ask again."""
        for intent in self.open.of(who):
            if intent.standing == "placed" and intent.address.action != "join":
                self.open.close(intent.seq)

    def _worker_of(self, who: Peer) -> WorkerView | None:
        peer = self.peer(who)
        return self.fleet.at(peer.place) if peer and peer.status != "homeless" else None

    # --- servers ---------------------------------------------------------------------------------

    def _server_changed(self, entry: Entry, event: ServerEvent, now: float) -> None:
        self._contract_fold(entry, event)
        state = self.state.servers.get(event.server)
        if state is None:
            return
        for worker in self.fleet.sync(state, now, watched=self.begun):
            for who in sorted(worker.state.peers):
                self._room(who[0]).detach(worker.key)
                self._drop_placed(who)
                self.homeless[who] = Homeless(*who, entry.seq, now, _CAUSES[type(event)], entry.message)

    # --- relays ----------------------------------------------------------------------------------

    def _open_relay(self, entry: Entry, command: commands.OpenRelay) -> None:
        self._contract_fold(entry, command)
        room = self.state.rooms.get(command.room)
        relay = room.relays.get((command.producer, command.target)) if room else None
        if relay is None or relay.source != command.source:
            return
        self._room(command.room).targets.setdefault(command.producer, set()).add(command.target)
        for place in (command.source, command.target):
            if worker := self.fleet.at(place):
                worker.ledger.reserve(entry.seq, (command.room, ""), self.config.micro(self.config.costs.relay))
                self.fleet.touch(worker)

    # --- intents and results ---------------------------------------------------------------------

    def _intent(self, entry: Entry, now: float) -> None:
        who = (entry.address.room or "", entry.address.peer or "")
        peer = self.peer(who)
        standing: Standing = "absent"
        if peer:
            standing = "homeless" if peer.status == "homeless" else "placed"
        self.open.add(OpenIntent(entry.seq, entry.address, entry.raw, entry.id, now, standing, now))

    def _result(self, entry: Entry) -> None:
        who = (entry.address.room or "", entry.address.peer or "")
        self.open.answered(who, entry.cause, entry.id)
        costs = self.config.costs
        match entry.address.action:
            case "create-transport":
                cost = costs.transport
            case "consume":
                cost = costs.consumer
            case "consume-data":
                cost = costs.data
            case _:
                return
        if not entry.rejected:
            self._reserve(entry.seq, who, entry.generation, cost)

    def _reserve(self, seq: int, who: Peer, generation: int, cost: float) -> None:
        peer = self.peer(who)
        worker = self._worker_of(who)
        if peer and worker and peer.generation == generation:
            worker.ledger.reserve(seq, who, self.config.micro(cost))
            self.fleet.touch(worker)

    def _room(self, room: str) -> RoomView:
        found = self.rooms.get(room)
        if found is None:
            found = self.rooms[room] = self.room(room)
            self._resting.pop(room, None)
        return found
