"""How many refusals an allocator appends for peers that no agent has, so that none of them fills the log. Pure.

The intents of a peer that has a place are counted by its agent (``mafalda.workers.core.rate_limits``).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from mafalda.contract.token_bucket import TokenBucket

Peer = tuple[str, str]  # room, peer

#: Refusals that a peer may have at once (twice what may wait for its join), and in a second; more are not answered.
MAX_REFUSED = 1_000
REFUSED_PER_S = 10.0
#: So many peers are remembered, the last that were refused something.
MAX_PEERS = 10_000
#: Seconds between two warnings about one peer.
WARN_INTERVAL_S = 60.0


@dataclass(slots=True)
class _Refused:
    bucket: TokenBucket
    warned_s: float = float("-inf")


@dataclass(slots=True)
class Refusals:
    """The refusals of many peers."""

    _peers: OrderedDict[Peer, _Refused] = field(default_factory=OrderedDict)

    def take(self, peer: Peer, now: float) -> Literal["answer", "warn", "ignore"]:
        """Count one refusal: it is to be appended, or is one too many, or the first of those for a while."""
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = _Refused(TokenBucket(REFUSED_PER_S, MAX_REFUSED, now))
            if len(self._peers) > MAX_PEERS:
                self._peers.popitem(last=False)
        self._peers.move_to_end(peer)
        if found.bucket.wait_s(1, now) == 0:
            found.bucket.take(1)
            return "answer"
        if now - found.warned_s < WARN_INTERVAL_S:
            return "ignore"
        found.warned_s = now
        return "warn"
