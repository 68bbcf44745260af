"""What a session requires of the producers and consumers that it opens again at each place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mafalda.client.session.view import ProducerChange
from mafalda.client.webrtc.statistics import StreamReport
from mafalda.contract.messages.events import Event
from mafalda.contract.messages.statistics import Way
from mafalda.errors import MafaldaError


class SessionResource(Protocol):
    """A producer or consumer of any kind; ``ReconnectingResource`` implements it."""

    def __hash__(self) -> int: ...

    @property
    def id(self) -> str:
        """Its id on the server."""

    @property
    def is_open(self) -> bool:
        """Whether it is open now; not while reconnecting."""

    @property
    def is_expected(self) -> bool:
        """Whether it is open at the present place, or can be opened there now."""

    async def measure(self, way: Way) -> StreamReport | None:
        """WebRTC statistics of what it sends or receives on a way; ``None``: it is not open, or not on that way."""

    def follows(self, producer: str) -> bool:
        """Whether it consumes this producer, wherever that is placed."""

    def on_producer_changes(self, changes: Mapping[str, ProducerChange]) -> None:
        """A room event has changed producers, by id."""

    def on_peer_event(self, event: Event) -> None:
        """Something happened to the peer's own objects."""

    def lose(self) -> None:
        """Its server side is gone, though the transport is not: open it again."""

    def finish(self, error: MafaldaError | None = None) -> None:
        """It is closed for good; the first call counts."""

    async def wait_media(self) -> None:
        """Wait until media comes in at its present place, or it is closed; what is sent waits for nothing."""

    async def wait_flowing(self) -> None:
        """Wait until media or data can flow at its present place, or it is closed for good."""

    async def wait_open(self) -> None:
        """Wait until it is open, or closed for good."""
