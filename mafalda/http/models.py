"""Bodies and answers of the HTTP API. The OpenAPI document is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mafalda.contract.grants import Grants
from mafalda.contract.ids import Id
from mafalda.contract.messages.payload import AppData, app_data
from mafalda.media.model import Model
from mafalda.media.rtp import MediaKind


class Body(Model):
    """What a request holds. A misspelt field is refused."""

    model_config = ConfigDict(extra="forbid")


class RoomSummary(Model):
    """A room in numbers."""

    room: Id
    peers: int
    audience: int = Field(description="Those of the peers that only receive and are announced to nobody.")
    producers: int


class RoomList(Model):
    """A page of the rooms with a peer, by id."""

    total: int
    rooms: list[RoomSummary]


class ProducerView(Model):
    """Something that a peer sends."""

    producer: Id
    peer: Id
    kind: Literal["audio", "video", "data"]
    paused: bool
    app_data: AppData = app_data()


class PeerView(Model):
    """A peer, and where it is."""

    peer: Id
    status: Literal["placing", "joined", "unplaced"]
    audience: bool
    server: Id
    worker: Id
    generation: int
    app_data: AppData = app_data()


class RoomView(Model):
    """A room."""

    room: Id
    seq: int = Field(description="The log sequence as of which it is: the room's events after it are those to come.")
    peers: list[PeerView]
    producers: list[ProducerView]


class MuteBody(Body):
    """Which producers."""

    kinds: list[MediaKind] = Field(["audio"], description="All of these kinds.")
    producers: list[Id] | None = Field(None, description="These instead, of whatever kind.")


class ProducersDone(Model):
    """The producers that were paused or resumed."""

    producers: list[Id]


class AppDataBody(Body):
    """Application data."""

    app_data: AppData = app_data()


class TokenBody(Grants):
    """What a token grants, and for how long."""

    life_s: Annotated[int, Field(ge=1, le=30 * 24 * 3600)] = Field(7200, description="Seconds.")


class TokenAnswer(Model):
    """A participant's token."""

    token: str
    token_id: str = Field(description="By which it is revoked.")
    expires: int = Field(description="Unix seconds.")


class Ended(Model):
    """What a change of credentials ended."""

    tokens: int = Field(description="Tokens that have connected before, and that it is about.")
    connections: int = Field(description="Connections that were ended.")


class Done(Model):
    """The request was carried out."""

    done: Literal[True] = True


class Problem(Model):
    """An error, as RFC 9457 has it. ``code`` is one of those in docs/protocol.md."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URI of the code.")
    title: str
    status: int
    detail: str
    code: str
    details: dict[str, Any] = Field(default_factory=dict)
