"""Commands of an allocator to one server, with the reasons for its choice.

They are appended on ``mafalda.command.{room}.{server}.{action}``; all commands of a room are one aggregate.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.payload import AppData, Kind, Payload, Place, app_data
from mafalda.contract.messages.subscriptions import Subscription
from mafalda.media.model import Model

PlacementCause = Literal["join", "worker-died", "server-lost", "server-restarted", "drain"]


class Command(Payload):
    """An order to one server."""

    kind: ClassVar[Kind] = "command"


class Candidate(Model):
    """One worker that a policy looked at; ``outcome`` is ``chosen`` or the named reason it was passed over."""

    server: Id
    worker: Id
    outcome: str
    load: float | None = Field(None, description="Load with pending reservations, 1.0 is one full core.")
    score: float | None = None


class Explanation(Model):
    """Why this worker. Candidates beyond the first few are only counted."""

    policy: str
    summary: str = Field(description="One sentence for people.")
    candidates: list[Candidate] = Field(default_factory=list)
    passed_over: dict[str, int] = Field(default_factory=dict, description="How many candidates for each reason.")


class PlacePeer(Command):
    """Give a peer its place: from now on this server answers for it."""

    action = "place-peer"
    room: Id
    peer: Id
    server: Id
    worker: Id
    generation: int = Field(ge=1)
    cause: PlacementCause = "join"
    join: str = Field(description="Id of the join intent that this peer's membership stems from.")
    join_seq: int | None = Field(
        None,
        ge=1,
        description="Log sequence of that intent, as long as no place has answered it: what the peer has requested "
        "since then is done at this place.",
    )
    app_data: AppData = app_data()
    region: Id | None = None
    one_transport: bool = Field(False, description="As in the join.")
    tenant: Id | None = Field(None, description="As in the join.")
    audience: bool = Field(False, description="As in the join.")
    lease_s: float | None = Field(None, gt=0, le=3600, description="As in the join.")
    handover: bool = Field(
        False,
        description="Make before break: the agent of the former place goes on forwarding until the client has moved, "
        "for a limited time.",
    )
    subscriptions: list[Subscription] = Field(
        default_factory=list, description="The peer's subscriptions at its former place, which go on at this one."
    )
    subscriptions_seq: int | None = Field(
        None,
        ge=0,
        description="Log sequence as of which these are the subscriptions; what the former place has answered since "
        "then changes them.",
    )
    explanation: Explanation


class OpenRelay(Command):
    """Relay a producer from one worker to another. For the target's server, which requests it of the source."""

    action = "open-relay"
    room: Id
    producer: Id
    data: bool = Field(False, description="A data producer.")
    source: Place
    target: Place
    generation: int = Field(ge=1, description="Generation of the peer that owns the producer.")
    explanation: Explanation


class RelayOrder(Model):
    """One relay of a batch."""

    producer: Id
    data: bool = Field(False, description="A data producer.")
    source: Place
    generation: int = Field(ge=1, description="Generation of the peer that owns the producer.")


class OpenRelays(Command):
    """Relay several producers to one worker. For the target's server, which requests them of the sources."""

    action = "open-relays"
    room: Id
    target: Place
    relays: list[RelayOrder] = Field(min_length=1)
    explanation: Explanation


COMMANDS: tuple[type[Command], ...] = (PlacePeer, OpenRelay, OpenRelays)
