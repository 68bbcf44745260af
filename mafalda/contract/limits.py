"""What one peer may use at most. An agent's configuration has it for every peer, a token for its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from mafalda.media.model import Model

Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class PeerLimits(Model):
    """Limits of one peer. What is absent is not limited here."""

    model_config = ConfigDict(extra="forbid")  # a misspelt limit must not pass for none

    messages_per_s: Rate | None = Field(None, description="Intents a second, on average.")
    bytes_per_s: Rate | None = Field(None, description="Bytes of intents a second, on average.")
    queries_per_s: Rate | None = Field(None, description="Queries a second, on average.")
    transports: Count | None = Field(None, description="Transports at a time.")
    producers: Count | None = Field(None, description="Producers and data producers at a time.")
    consumers: Count | None = Field(None, description="Consumers and data consumers at a time.")
    incoming_bps: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Bits a second that the peer is asked to send at most, on each transport."
    )

    def narrowed(self, other: PeerLimits | None) -> PeerLimits:
        """The stricter of both limits, for each of them."""
        if other is None:
            return self
        mine, others = self.model_dump(), other.model_dump()
        both = {name: [it for it in (mine[name], others[name]) if it is not None] for name in mine}
        return PeerLimits(**{name: min(given) for name, given in both.items() if given})
