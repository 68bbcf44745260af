"""Grants: what a participant's token permits. Its schema is ``schemas/grants.v1.json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mafalda.contract.ids import Id
from mafalda.contract.limits import PeerLimits
from mafalda.media.model import Model
from mafalda.media.rtp import MediaKind

MAX_ROOMS = 32


class Grants(Model):
    """What one peer may do, in the claim ``mafalda`` of its token. What is absent has its default."""

    model_config = ConfigDict(extra="forbid")  # a misspelt restriction must not pass for none

    rooms: Annotated[list[Id], Field(min_length=1, max_length=MAX_ROOMS)] = Field(
        description="The rooms in which it may be a peer."
    )
    peer: Id = Field(description="Its peer id in each of them.")
    publish: list[MediaKind] = Field(
        ["audio", "video"],
        description="Kinds of media that it may produce; empty: none.",
    )
    subscribe: bool = Field(True, description="Whether it may consume media and data of others.")
    data: bool = Field(True, description="Whether it may open data producers.")
    roster: bool = Field(True, description="Whether it may read the room's events and who is in the room.")
    moderate: bool = Field(
        False, description="Whether it may remove other peers of its rooms, and pause or close their producers."
    )
    audience: bool = Field(
        False, description="Whether it may join as audience only; a moderator may promote it afterwards."
    )
    limits: PeerLimits | None = Field(
        None, description="Limits that are stricter than those of the fleet; greater ones change nothing."
    )

    def to_json_dict(self) -> dict[str, Any]:
        """The JSON shape without defaults: what is not used can be read by agents that do not know it yet."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class ApplicationGrants(Model):
    """What an application's server may do over HTTP, in the claim ``mafalda`` of its token (docs/security.md).

    Such a token opens no connection to NATS.
    """

    model_config = ConfigDict(extra="forbid")

    application: Literal[True] = Field(description="That this is such a token.")
    rooms: list[Id] | None = Field(None, min_length=1, max_length=MAX_ROOMS, description="Only these; absent: all.")


class GrantChange(Model):
    """What a peer may do instead of what its token says. What is absent stays as the token has it."""

    model_config = ConfigDict(extra="forbid")

    publish: list[MediaKind] | None = Field(None, description="Kinds of media that it may produce; empty: none.")
    subscribe: bool | None = Field(None, description="Whether it may consume media and data of others.")
    data: bool | None = Field(None, description="Whether it may open data producers.")
    roster: bool | None = Field(None, description="Whether it may read the room's events and who is in the room.")
    moderate: bool | None = Field(None, description="Whether it may moderate.")

    def apply(self, grants: Grants) -> Grants:
        """The grants with this change."""
        return grants.model_copy(update=self.model_dump(exclude_none=True))


class ChangeRequest(Model):
    """What the auth service is asked on ``mafalda.auth.request.grant``."""

    model_config = ConfigDict(extra="forbid")

    room: Id
    peer: Id
    grants: GrantChange


class Revocation(Model):
    """What the auth service is asked on ``mafalda.auth.request.revoke``: a token, or the tokens for a room or peer.

    A token itself may be sent there as text, too.
    """

    model_config = ConfigDict(extra="forbid")

    token_id: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="A digest of the token's `jti`.")
    room: Id | None = None
    peer: Id | None = Field(None, description="Of the room; absent: all peers.")

    @model_validator(mode="after")
    def _names_one_thing(self) -> Revocation:
        if (self.token_id is None) == (self.room is None) or (self.room is None and self.peer is not None):
            raise ValueError("name a token, or a room and maybe its peer")
        return self
