"""Which NATS subjects grants and roles permit. Pure.

A participant is in a NATS account of its own (``PARTICIPANTS``), which imports only what is listed here; so a reply
subject that it invents leads back into that account and never to the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mafalda.contract import subjects
from mafalda.contract.channels import (
    ALLOCATOR_REPORT_CHANNEL,
    CHANNELS,
    LOAD_CHANNEL,
    NOTICE_CHANNEL,
    QUERY_CHANNEL,
    REQUEST_CHANNEL,
    SERVER_EVENT_CHANNEL,
    SERVER_NOTICE_CHANNEL,
    Role,
)
from mafalda.contract.grants import Grants
from mafalda.contract.messages import intents, queries
from mafalda.contract.messages.payload import Payload

FLEET_ACCOUNT = "MAFALDA"
PARTICIPANT_ACCOUNT = "PARTICIPANTS"

FleetRole = Literal["agent", "allocator", "archive", "monitor", "operator", "application", "auth"]
ROLES: tuple[FleetRole, ...] = get_args(FleetRole)

AUTH_PREFIX = "mafalda.auth."
#: Where operators and applications ask the auth service to revoke tokens, and to change what a peer is granted.
REVOKE_REQUEST = f"{AUTH_PREFIX}request.revoke"
GRANT_REQUEST = f"{AUTH_PREFIX}request.grant"
#: The stream of what the auth service knows: revocations, changed grants, the tokens and the grants of each peer.
AUTH_STREAM = "MAFALDA_AUTH"
REVOKED = f"{AUTH_PREFIX}revoked."


@dataclass(frozen=True, slots=True)
class Permissions:
    """Allow lists of subjects. What is not listed is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


_ALWAYS = (
    intents.Join,
    intents.Leave,
    intents.CreateTransport,
    intents.ConnectTransport,
    intents.RestartIce,
    intents.CloseTransport,
    intents.SetAppData,
    intents.IntentBatch,  # its agent checks each intent in it (``may_publish``)
)
_PUBLISH = (intents.Produce, intents.SetAudience)
_DATA = (intents.ProduceData, intents.CloseDataProducer)
#: For data producers too.
_OWN_PRODUCERS = (intents.PauseProducer, intents.ResumeProducer, intents.CloseProducer)
_SUBSCRIBE = (
    intents.Consume,
    intents.ConsumeData,
    intents.PauseConsumer,
    intents.ResumeConsumer,
    intents.CloseConsumer,
    intents.CloseDataConsumer,
    intents.SetPreferredLayers,
    intents.SetPriority,
    intents.RequestKeyFrame,
    intents.Subscribe,
    intents.ChangeSubscription,
    intents.Unsubscribe,
)
#: What a moderator may publish for any peer of its rooms. These have no private result.
MODERATE = (
    intents.Leave,
    intents.SetAudience,
    intents.SetAppData,
    intents.PauseProducer,
    intents.CloseProducer,
    intents.CloseDataProducer,
)
#: What a moderator may publish for itself.
_MODERATE_OWN = (intents.EndRoom,)
#: For applications that speak the worker's channel; never for participants.
_NOT_GRANTED: tuple[type[Payload], ...] = (intents.RequestChannel, intents.ApplyGrants, queries.QueryChannel)
_ALWAYS_QUERIES = (
    queries.QueryTransport,
    queries.QueryEntries,
    queries.QueryStats,
    queries.ReportStatistics,
    queries.QueryScores,
)
_ROSTER_QUERIES = (queries.QueryRoom, queries.QuerySpeakers)
_SUBSCRIBE_QUERIES = (queries.QuerySubscription,)

#: Every intent and query of a peer that some grant permits, or none.
CLASSIFIED: frozenset[type[Payload]] = frozenset(
    (
        *_ALWAYS,
        *_PUBLISH,
        *_DATA,
        *_OWN_PRODUCERS,
        *_SUBSCRIBE,
        *_MODERATE_OWN,
        *_NOT_GRANTED,
        *_ALWAYS_QUERIES,
        *_ROSTER_QUERIES,
        *_SUBSCRIBE_QUERIES,
    )
)


def granted_subject(room: str, peer: str) -> str:
    """Where the auth service keeps what a peer of a room was granted last."""
    return f"{AUTH_PREFIX}peer.{room}.{peer}"


def seen_token_subject(room: str, peer: str, token_id: str) -> str:
    """Where the auth service keeps what a token grants that connected for a peer of a room."""
    return f"{AUTH_PREFIX}token.{room}.{peer}.{token_id}"


def revoked_room_subject(room: str) -> str:
    """Where the auth service keeps since when tokens for a room are revoked."""
    return f"{AUTH_PREFIX}revoked-room.{room}"


def revoked_peer_subject(room: str, peer: str) -> str:
    """Where the auth service keeps since when tokens for a peer of a room are revoked."""
    return f"{AUTH_PREFIX}revoked-peer.{room}.{peer}"


def changed_grants_subject(room: str, peer: str) -> str:
    """Where the auth service keeps what a peer of a room is granted instead of what its token says."""
    return f"{AUTH_PREFIX}changed.{room}.{peer}"


def inbox_prefix(room: str, peer: str) -> str:
    """The prefix of a participant's reply subjects: its own, so that nobody else receives its replies."""
    return f"_INBOX.{room}.{peer}"


def token_notices(room: str, peer: str) -> str:
    """Where a participant is told why its connection is about to end."""
    return f"{inbox_prefix(room, peer)}.token"


def participant_permissions(*granted: Grants) -> Permissions:
    """The subjects that a participant needs for what it is granted, and no others."""
    publish: list[str] = []
    subscribe: list[str] = []
    for grants, room in [(it, room) for it in granted for room in dict.fromkeys(it.rooms)]:
        peer = f"mafalda.room.{room}.peer.{grants.peer}"
        publish += [f"{peer}.intent.{action}" for action in _granted_intents(grants)]
        publish += [f"{peer}.query.{query.action}" for query in _ALWAYS_QUERIES]
        subscribe += [f"live.{peer}.result.*", f"live.{peer}.event.*", f"{inbox_prefix(room, grants.peer)}.>"]
        publish += [f"{inbox_prefix(room, grants.peer)}.>"]  # clients confirm subscriptions by a message to themselves
        if grants.roster:
            subscribe.append(f"live.mafalda.room.{room}.event.*")
            publish += [f"{peer}.query.{query.action}" for query in _ROSTER_QUERIES]
        if grants.subscribe:
            publish += [f"{peer}.query.{query.action}" for query in _SUBSCRIBE_QUERIES]
        if grants.moderate:
            publish += [f"{peer}.intent.{intent.action}" for intent in _MODERATE_OWN]
            any_peer = f"mafalda.room.{room}.peer.*"
            moderated = [it for it in MODERATE if it is not intents.SetAudience or not grants.audience]
            publish += [f"{any_peer}.intent.{intent.action}" for intent in moderated]
            subscribe += [f"live.{any_peer}.result.{intent.action}" for intent in moderated]
    return Permissions(tuple(publish), tuple(subscribe))


def _granted_intents(grants: Grants) -> list[str]:
    granted: list[type[Payload]] = [*_ALWAYS]
    if grants.publish:
        granted += _PUBLISH
    if grants.audience:  # else it could promote itself
        granted = [intent for intent in granted if intent is not intents.SetAudience]
    if grants.data:
        granted += _DATA
    if grants.publish or grants.data:
        granted += _OWN_PRODUCERS
    if grants.subscribe:
        granted += _SUBSCRIBE
    return [intent.action for intent in granted]


def may_publish(grants: Grants, action: str) -> bool:
    """Whether a participant may publish intents of an action for itself: what NATS checks by their subjects.

    Args:
        grants: What it is granted.
        action: The intents'.
    """
    return action in _granted_intents(grants)


_CONTRACT_ROLE: dict[FleetRole, Role] = {
    "agent": "agent",
    "allocator": "allocator",
    "operator": "operator",
    "application": "client",
}
_READ_LOG = (
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.MSG.GET.>",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.>",
    "$JS.ACK.>",
    "$JS.FC.>",
)
_MAKE_STREAMS = ("$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>")
_SNAPSHOTS = f"{subjects.SNAPSHOT_PREFIX}>"
#: Positions of feeds, and events that webhooks could not deliver.
_FEEDS = (f"{subjects.SNAPSHOT_PREFIX}cursor.*", f"{subjects.SNAPSHOT_PREFIX}dead-letter.>")
#: Own inboxes of the roles; those of participants have four parts or more.
_ROLE_INBOXES = ("_INBOX.*", "_INBOX.*.*")
#: Replies to requests of participants come under ``_R_``, which NATS makes.
_REPLIES = ("_INBOX.>", "_R_.>")


def role_permissions(role: FleetRole, server: str | None = None) -> Permissions:
    """The subjects of a role, by who sends what in ``contract.channels``.

    Args:
        role: The role.
        server: Of an agent: the one server in whose name it may speak, and whose requests it may read; ``None``: any.
    """
    if role == "auth":
        own = f"{AUTH_PREFIX}>"
        own_intents = [
            f"mafalda.room.*.peer.*.intent.{intent.action}" for intent in (intents.Leave, intents.ApplyGrants)
        ]
        return Permissions(
            (*_READ_LOG, *_MAKE_STREAMS, *_REPLIES, "$SYS._INBOX.>", own, *own_intents),
            (*_ROLE_INBOXES, own, "$SYS.REQ.USER.AUTH"),
        )
    publish = [*_READ_LOG, "_INBOX.>"]
    sender = _CONTRACT_ROLE.get(role)
    publish += [
        _wildcards(it.pattern, server if it in _OF_ONE_SERVER else None) for it in CHANNELS if sender in it.senders
    ]
    if role in ("agent", "allocator"):
        publish += [*_MAKE_STREAMS, "_R_.>", "mafalda.room.*.peer.*.intent.leave"]
    elif role == "operator":
        publish += [*_MAKE_STREAMS, f"mafalda.room.*.peer.*.intent.{intents.EndRoom.action}"]
    if role in ("allocator", "archive"):
        publish += [_SNAPSHOTS]
    if role in ("application", "operator"):
        publish += (*_FEEDS, f"{AUTH_PREFIX}request.>")
    if role in ("allocator", "operator"):
        publish += ["$JS.API.STREAM.PURGE.>"]
    subscribe = [*_ROLE_INBOXES, "live.mafalda.>"]
    if role == "agent":
        served = (QUERY_CHANNEL, NOTICE_CHANNEL, REQUEST_CHANNEL, SERVER_NOTICE_CHANNEL)
        subscribe += [_wildcards(channel.pattern, server) for channel in served]
    else:
        subscribe.append(_wildcards(LOAD_CHANNEL.pattern))
    if role in ("allocator", "operator", "monitor"):
        subscribe.append(_wildcards(ALLOCATOR_REPORT_CHANNEL.pattern))
    return Permissions(tuple(dict.fromkeys(publish)), tuple(subscribe))


#: What an agent publishes in the name of its server. Requests and notices go to other servers.
_OF_ONE_SERVER = (SERVER_EVENT_CHANNEL, LOAD_CHANNEL)


def _wildcards(pattern: str, server: str | None = None) -> str:
    """A channel's pattern with a wildcard for each parameter, but for the server if it is given."""
    if pattern.startswith("_INBOX."):
        return "_INBOX.>"
    values = {"{server}": server} if server else {}
    return ".".join(values.get(token, "*") if token.startswith("{") else token for token in pattern.split("."))
