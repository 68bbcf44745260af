"""What a peer's session uses of the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from mafalda.aio.tasks import TaskScope
from mafalda.contract.grants import Grants
from mafalda.projection.state import RoomState
from mafalda.workers.config import AgentConfig
from mafalda.workers.core.rate_limits import IntentRates, QueryRates, RoomRates
from mafalda.workers.core.stimuli import Stimulus
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.log.reader import LogReader
from mafalda.workers.loudness.levels import AudioLevelExchange
from mafalda.workers.loudness.speakers import RoomSpeakers
from mafalda.workers.peers.session.capabilities import KnownCapabilities
from mafalda.workers.peers.session.subscribers import Subscribers
from mafalda.workers.relays.requests import RelayRequests
from mafalda.workers.relays.targets import RelayTargets
from mafalda.workers.supervision.routers import Routers


class RoomReader(Protocol):
    """The fold of the rooms that have something on this server."""

    def room(self, room: str) -> RoomState | None: ...

    def room_seq(self, room: str) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class PeerServices:
    """Shared by all sessions of one incarnation.

    Attributes:
        config: Time limits, ports.
        tasks: Runs what outlasts one intent.
        publisher: Appends results and events.
        log_reader: Follows intents.
        rooms: The fold.
        routers: One for each room and worker.
        relay_targets: The producers that are relayed to this server.
        relay_requests: The relays that subscriptions need.
        report: Takes what happened to the session.
        audio_levels: Which producers of a room are the loudest.
        speakers: Tells peers who speaks.
        subscribers: The sessions with subscriptions.
        now: Monotonic seconds by the bus's clock: they stand still while nobody can reach this agent.
        grants: Reads what a peer was granted; ``None`` for one without a token.
        intent_rates: Of the peers of this server.
        query_rates: The same for queries.
        room_rates: The intents of rooms.
        capabilities: What clients can receive.
        claimed: Producers that were opened here, by room and id; the fold has them a moment later.
    """

    config: AgentConfig
    tasks: TaskScope
    publisher: Publisher
    log_reader: LogReader
    rooms: RoomReader
    routers: Routers
    relay_targets: RelayTargets
    relay_requests: RelayRequests
    report: Callable[[Stimulus], None]
    audio_levels: AudioLevelExchange
    speakers: RoomSpeakers
    now: Callable[[], float]
    grants: Callable[[str, str], Awaitable[Grants | None]]
    intent_rates: IntentRates
    query_rates: QueryRates
    room_rates: RoomRates
    subscribers: Subscribers[Any] = field(default_factory=Subscribers)
    capabilities: KnownCapabilities = field(default_factory=KnownCapabilities)
    claimed: set[tuple[str, str]] = field(default_factory=set)
