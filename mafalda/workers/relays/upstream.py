"""What a relay source uses of the relay targets: the producer that it sends may be one of them, in a tree of relays."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from mafalda.workers.core.instructions import RelayKey


class Upstream(Protocol):
    """The relay targets of this server. For a producer that has its origin here, nothing happens."""

    def use(self, key: RelayKey, user: Hashable, *, paused: bool) -> None:
        """Add a user of a relay target, or pause or resume one.

        Raises:
            NotFound: The relay target is not open.
        """

    def release(self, key: RelayKey, user: Hashable) -> None:
        """Remove a user."""

    def origin_scores(self, key: RelayKey) -> tuple[int, ...] | None:
        """The scores of a relayed producer at its origin; None if the producer has its origin here."""
