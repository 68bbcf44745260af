"""Grants: what a participant's token permits. Its schema is ``schemas/grants.v1.json``."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from mafalda.contract.ids import Id
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
