"""Grants: what a participant's token permits. Its schema is ``schemas/grants.v1.json``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

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
