"""Channels: which message may be published on which subject, by whom and for whom.

The published documents are generated from this table, and ``fits`` checks received messages against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mafalda.contract import subjects
from mafalda.contract.messages import commands, events, load, results
from mafalda.contract.messages.allocator_report import AllocatorReport
from mafalda.contract.messages.events import PEER_EVENTS, ROOM_EVENTS, SERVER_EVENTS
from mafalda.contract.messages.intents import INTENTS
from mafalda.contract.messages.notices import AudioLevels, AudioLevelsWanted, ChannelNotices, RelayNotices
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.queries import ANSWERS, QUERIES, REQUESTS
from mafalda.contract.messages.results import RESULTS
from mafalda.contract.subjects import Address

Role = Literal["client", "allocator", "agent", "operator"]


@dataclass(frozen=True, slots=True)
class MessageChannel:
    """One family of subjects.

    ``stored``: the log captures them and republishes them under ``live.``, where to subscribe. ``senders`` and
    ``receivers`` are roles; what a client may really do is decided by its NATS credential.
    """

    name: str
    pattern: str
    kind: str
    about: str
    senders: tuple[Role, ...]
    receivers: tuple[Role, ...]
    payloads: tuple[type[Payload], ...]
    stored: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the pattern's braces, in order."""
        return tuple(token[1:-1] for token in self.pattern.split(".") if token.startswith("{"))


INTENT_CHANNEL = MessageChannel(
    "intents",
    "mafalda.room.{room}.peer.{peer}.intent.{action}",
    "intent",
    "Requests of a peer. Answered on its results; what must not be stored goes to the inbox that the NATS header "
    "Mafalda-Reply-To names.",
    ("client",),
    ("allocator", "agent"),
    INTENTS,
    True,
)
RESULT_CHANNEL = MessageChannel(
    "results",
    "mafalda.room.{room}.peer.{peer}.result.{action}",
    "result",
    "What came of a peer's intents, for this peer alone. {action} is the intent's, causationid is the intent's id.",
    ("agent", "allocator"),
    ("client", "allocator"),
    RESULTS,
    True,
)
PEER_EVENT_CHANNEL = MessageChannel(
    "peerEvents",
    "mafalda.room.{room}.peer.{peer}.event.{action}",
    "event",
    "What happened to a peer's own objects without its asking, for this peer alone; and that a peer of the audience "
    "has joined, moved or left, which the room is not told.",
    ("agent", "allocator"),
    ("client", "agent", "allocator"),
    PEER_EVENTS,
    True,
)
ROOM_EVENT_CHANNEL = MessageChannel(
    "roomEvents",
    "mafalda.room.{room}.event.{action}",
    "event",
    "What everyone in the room may know.",
    ("agent", "allocator"),
    ("client", "agent", "allocator"),
    ROOM_EVENTS,
    True,
)
COMMAND_CHANNEL = MessageChannel(
    "commands",
    "mafalda.command.{room}.{server}.{action}",
    "command",
    "Placement commands to one server. All commands of a room are one aggregate: each is appended with the expected "
    "last sequence of mafalda.command.{room}.>, so that two allocators never both win.",
    ("allocator",),
    ("agent", "allocator"),
    commands.COMMANDS,
    True,
)
SERVER_EVENT_CHANNEL = MessageChannel(
    "serverEvents",
    "mafalda.server.{server}.event.{action}",
    "event",
    "What happened to a server or one of its workers.",
    ("agent", "allocator"),
    ("agent", "allocator", "operator"),
    SERVER_EVENTS,
    True,
)
LOAD_CHANNEL = MessageChannel(
    "loads",
    "mafalda.server.{server}.load",
    "load",
    "A server's load report, each second, which is its heartbeat too; the last one of each server is kept in memory, "
    "none in the log.",
    ("agent",),
    ("allocator", "operator"),
    load.REPORTS,
    False,
)
ALLOCATOR_REPORT_CHANNEL = MessageChannel(
    "allocatorReports",
    "mafalda.allocator.{allocator}.report.{action}",
    "report",
    "What an allocator tells about itself, twice a second: its heartbeat, by which allocators divide the rooms, and "
    "reservations that should have ended. Never stored.",
    ("allocator",),
    ("allocator", "operator"),
    (AllocatorReport,),
    False,
)
QUERY_CHANNEL = MessageChannel(
    "queries",
    "mafalda.room.{room}.peer.{peer}.query.{action}",
    "query",
    "A peer asks its agent (request and reply). Never stored.",
    ("client",),
    ("agent",),
    QUERIES,
    False,
)
NOTICE_CHANNEL = MessageChannel(
    "notices",
    "mafalda.room.{room}.peer.{peer}.notice.{action}",
    "notice",
    "What a peer sends its agent without an answer, such as media. Never stored.",
    ("client",),
    ("agent",),
    (ChannelNotices,),
    False,
)
SERVER_NOTICE_CHANNEL = MessageChannel(
    "serverNotices",
    "mafalda.server.{server}.notice.{action}",
    "notice",
    "What an agent sends another about relayed producers and loudness, without an answer. Never stored.",
    ("agent",),
    ("agent",),
    (RelayNotices, AudioLevelsWanted, AudioLevels),
    False,
)
REQUEST_CHANNEL = MessageChannel(
    "requests",
    "mafalda.server.{server}.request.{action}",
    "request",
    "Agents ask an agent about relays, operators ask it about itself (request and reply). Never stored: it may hold "
    "secrets.",
    ("agent", "operator"),
    ("agent",),
    REQUESTS,
    False,
)
REPLY_CHANNEL = MessageChannel(
    "replies",
    "_INBOX.{inbox}",
    "answer",
    "The asker's own inbox: answers to queries and requests, secrets, and the rejection of a join while the log is "
    "full. Never stored.",
    ("agent", "allocator"),
    ("client", "agent", "operator"),
    (*ANSWERS, ChannelNotices, results.TransportResult, results.ChannelAnswer, results.ResultBatch, results.Rejected),
    False,
)

CHANNELS = (
    INTENT_CHANNEL,
    RESULT_CHANNEL,
    ROOM_EVENT_CHANNEL,
    PEER_EVENT_CHANNEL,
    COMMAND_CHANNEL,
    SERVER_EVENT_CHANNEL,
    LOAD_CHANNEL,
    ALLOCATOR_REPORT_CHANNEL,
    QUERY_CHANNEL,
    NOTICE_CHANNEL,
    SERVER_NOTICE_CHANNEL,
    REQUEST_CHANNEL,
    REPLY_CHANNEL,
)

#: The channel of each message; for one that may also come as a reply, the channel where it is stored.
CHANNEL_OF: dict[type[Payload], MessageChannel] = {
    payload: channel for channel in reversed(CHANNELS) for payload in channel.payloads
}

#: The actions on whose result subjects a result may be published; any other result only on that of its own action.
RESULT_ACTIONS: dict[type[Payload], tuple[str, ...]] = {
    results.TransportResult: ("create-transport", "restart-ice"),
    results.SubscribeResult: ("subscribe", "change-subscription"),
    results.ChannelAnswer: ("channel", "create-transport"),
}

_Scope = tuple[str, bool, bool, bool]


def _scope(kind: str, names: tuple[str, ...]) -> _Scope:
    return kind, "room" in names, "peer" in names, "server" in names


_TYPES: Mapping[_Scope, frozenset[type[Payload]]] = {
    _scope(channel.kind, channel.parameters): frozenset(channel.payloads)
    for channel in CHANNELS
    if channel is not REPLY_CHANNEL
}


def fits(address: Address, payload: Payload) -> bool:
    """Whether a payload may be published on a subject.

    Kind, action and audience must be those of the subject, and a room or server that the payload names too. Every
    reader must check this (``contract.reading`` does): NATS checks who publishes on a subject, but not what.
    """
    scope = (address.kind, address.room is not None, address.peer is not None, address.server is not None)
    if type(payload) not in _TYPES.get(scope, ()):
        return False
    match address.kind:
        case "result":
            return _fits_result(address, payload)
        case "load":
            return isinstance(payload, load.ServerLoad) and payload.server == address.server
    return payload.action == address.action and _names_its_place(address, payload)


def _fits_result(address: Address, payload: Payload) -> bool:
    if isinstance(payload, results.Done | results.Rejected):
        return payload.intent == address.action
    if isinstance(payload, results.ChannelAnswer) and payload.intent != address.action:
        return False
    return address.action in RESULT_ACTIONS.get(type(payload), (payload.action,))


def _names_its_place(address: Address, payload: Payload) -> bool:
    match payload:
        case commands.PlacePeer():
            return (payload.room, payload.server) == (address.room, address.server)
        case commands.OpenRelay() | commands.OpenRelays():
            return (payload.room, payload.target.server) == (address.room, address.server)
        case AllocatorReport():
            return payload.allocator == address.allocator
        case RelayNotices():
            return payload.target.server == address.server
        case events.LoadSampled():
            return payload.load.server == address.server
        case (
            events.PeerJoined() | events.PeerMoved() | events.PeerStranded() | events.PeerUpdated() | events.PeerLeft()
        ) if address.peer is not None:
            return payload.peer == address.peer
        case events.Event() if address.server is not None:
            return getattr(payload, "server", None) == address.server
    return True


def membership_subject(room: str, event: events.Event, peer: str, *, audience: bool) -> str:
    """The subject of a membership event: the room's, or the peer's own if it is audience, so that few receive it.

    Args:
        room: The room's id.
        event: One of ``MEMBERSHIP_EVENTS``.
        peer: The peer's id.
        audience: Whether it is audience.
    """
    return subjects.peer_event(room, peer, event.action) if audience else subjects.room_event(room, event.action)


def audience_events(room: str, *only: str) -> tuple[str, ...]:
    """The patterns of the membership events of a room's audience.

    Args:
        room: The room's id; ``*``: every room.
        only: The actions of the events; none: all.
    """
    actions = [event.action for event in events.MEMBERSHIP_EVENTS if not only or event.action in only]
    return tuple(f"mafalda.room.{room}.peer.*.event.{action}" for action in actions)


#: Subjects of the events that change which servers and workers there are; load samples are not among them.
SERVER_LIFECYCLE_SUBJECTS = tuple(
    f"mafalda.server.*.event.{event.action}"
    for event in (
        events.ServerStarted,
        events.ServerStopped,
        events.ServerDraining,
        events.ServerLost,
        events.WorkerStarted,
        events.WorkerDied,
    )
)
