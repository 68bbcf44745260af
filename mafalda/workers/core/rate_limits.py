"""How many messages a peer and a room may send: token buckets. Pure; times are monotonic seconds.

A bucket is full at first, loses one token for each message (or one for each byte), and gains ``rate`` tokens a second.
So a peer may send ``burst_s`` seconds' worth at once, and ``rate`` a second in the long run.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mafalda.contract.limits import PeerLimits
from mafalda.contract.token_bucket import TokenBucket
from mafalda.errors import RateLimited

#: Refused intents that a peer may have at once, and in a second; a peer that has more is removed from its room.
#: Each refusal is stored, so this also bounds what a flood adds to the log.
MAX_REFUSED = 200
REFUSED_PER_S = 10.0


#: The name of the limit of a room's intents.
ROOM_LIMIT = "room_messages_per_s"
#: Seconds after which the peers of a room are counted again.
_COUNT_INTERVAL_S = 1.0


@dataclass(slots=True)
class RoomShare:
    """What the peers of one server may send of what their room may: a message costs one token for each of the room's
    peers, divided by those that are here. So all servers together have the room's rate, without asking each other.
    """

    bucket: TokenBucket
    cost: float = 1.0
    counted_s: float = float("-inf")


class RoomRates:
    """The intents of many rooms. Those that sent longest ago are forgotten.

    Args:
        rate: Intents a second of one room; ``None``: any number.
        burst_s: A bucket holds what so many seconds give.
        now: Returns the present time.
        count: How many peers of a room are here, and how many it has.
        max_rooms: So many rooms are remembered.
    """

    def __init__(
        self,
        rate: float | None,
        burst_s: float,
        now: Callable[[], float],
        count: Callable[[str], tuple[int, int]],
        max_rooms: int = 10_000,
    ) -> None:
        self._rate, self._burst_s, self._now, self._count, self._max_rooms = rate, burst_s, now, count, max_rooms
        self._rooms: OrderedDict[str, RoomShare] = OrderedDict()

    def of(self, room: str) -> RoomShare | None:
        """The share of a room's peers here; ``None``: rooms are not limited."""
        if self._rate is None:
            return None
        now, share = self._now(), self._rooms.get(room)
        if share is None:
            share = self._rooms[room] = RoomShare(TokenBucket(self._rate, _size(self._rate, self._burst_s), now))
            if len(self._rooms) > self._max_rooms:
                self._rooms.popitem(last=False)
        self._rooms.move_to_end(room)
        if now - share.counted_s >= _COUNT_INTERVAL_S:
            here, all_of_them = self._count(room)
            share.cost, share.counted_s = max(1.0, all_of_them / max(1, here)), now
        return share


class IntentRate:
    """The intents of one peer: how many, how large, and how many were refused.

    Args:
        limits: Of the peer.
        burst_s: A bucket holds what so many seconds give.
        now: The present time.
    """

    def __init__(self, limits: PeerLimits, burst_s: float, now: float) -> None:
        rates = {"messages_per_s": limits.messages_per_s, "bytes_per_s": limits.bytes_per_s}
        self._buckets = {name: TokenBucket(rate, _size(rate, burst_s), now) for name, rate in rates.items() if rate}
        self._refused = TokenBucket(REFUSED_PER_S, MAX_REFUSED, now)
        self.limits = limits
        self.is_flooding = False

    def take(self, size_bytes: int, now: float, room: RoomShare | None = None) -> None:
        """Count one intent. ``is_flooding`` says of a refusal that it is one too many.

        Args:
            size_bytes: Of the message.
            now: The present time.
            room: What the peers here may send of what the room may; ``None``: any number.

        Raises:
            RateLimited: The peer or its room sends too much; the message is not to be done.
        """
        self.is_flooding = False
        amounts = {"messages_per_s": 1.0, "bytes_per_s": float(size_bytes)}
        buckets = dict(self._buckets)
        if room is not None:
            buckets[ROOM_LIMIT], amounts[ROOM_LIMIT] = room.bucket, room.cost
        waits = {name: bucket.wait_s(amounts[name], now) for name, bucket in buckets.items()}
        exceeded = max(waits, key=waits.__getitem__, default=None)
        if exceeded is not None and waits[exceeded] > 0:
            self.is_flooding = self._refused.wait_s(1, now) > 0
            if not self.is_flooding:
                self._refused.take(1)
            raise _rate_limited("intents", exceeded, buckets[exceeded], waits[exceeded])
        for name, bucket in buckets.items():
            bucket.take(amounts[name])


class IntentRates:
    """The rates of many peers, also of those that have left: who joins again goes on where it was.

    Args:
        burst_s: A bucket holds what so many seconds give.
        now: Returns the present time.
        max_peers: So many peers are remembered, the last that joined.
    """

    def __init__(self, burst_s: float, now: Callable[[], float], max_peers: int = 10_000) -> None:
        self._burst_s, self._now, self._max_peers = burst_s, now, max_peers
        self._rates: OrderedDict[Hashable, IntentRate] = OrderedDict()

    def of(self, peer: Hashable, limits: PeerLimits) -> IntentRate:
        """The rate of a peer that has joined or was placed; a new one if its limits have changed."""
        rate = self._rates.get(peer)
        if rate is None or rate.limits != limits:
            rate = self._rates[peer] = IntentRate(limits, self._burst_s, self._now())
            if len(self._rates) > self._max_peers:
                self._rates.popitem(last=False)
        self._rates.move_to_end(peer)
        return rate


class QueryRates:
    """The queries of many peers. Those that asked longest ago are forgotten.

    Args:
        burst_s: A bucket holds what so many seconds give.
        now: Returns the present time.
        max_peers: So many peers are remembered.
    """

    def __init__(self, burst_s: float, now: Callable[[], float], max_peers: int = 10_000) -> None:
        self._burst_s, self._now, self._max_peers = burst_s, now, max_peers
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, peer: Hashable, rate: float | None) -> None:
        """Count one query of a peer.

        Args:
            peer: Whose.
            rate: Queries a second that it may send; ``None``: any number.

        Raises:
            RateLimited: It sends too many.
        """
        if rate is None:
            return
        now, bucket = self._now(), self._buckets.get(peer)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[peer] = TokenBucket(rate, _size(rate, self._burst_s), now)
            if len(self._buckets) > self._max_peers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(peer)
        if (wait_s := bucket.wait_s(1, now)) > 0:
            raise _rate_limited("queries", "queries_per_s", bucket, wait_s)
        bucket.take(1)


def _size(rate: float, burst_s: float) -> float:
    return max(1.0, rate * burst_s)


def _rate_limited(what: str, limit: str, bucket: TokenBucket, wait_s: float) -> RateLimited:
    retry_after_s = math.ceil(wait_s * 1000) / 1000
    return RateLimited(f"too many {what}", limit=limit, allowed=bucket.rate, retry_after_s=retry_after_s)
