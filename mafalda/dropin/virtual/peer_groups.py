"""Which transports belong to one participant, by the order in which an application makes them. Pure.

A library tells its worker nothing of who a transport is for: ``appData`` stays in the application. But most
applications make a participant's transports one after the other, one to send and one to receive. So the next
WebRtcTransport of a router belongs to the participant of the one before it, until that participant has all of its.
"""

from __future__ import annotations

from dataclasses import dataclass

#: From the first transport of a participant to the last, in seconds: clients ask for them one after the other.
WITHIN_S = 10.0


@dataclass(slots=True)
class _Group:
    first: str
    since_s: float
    size: int = 1


class PeerGroups:
    """The participants of all routers whose transports are not all made yet.

    Args:
        transports_per_peer: How many WebRtcTransports each participant has; 1 if none belong together.
    """

    def __init__(self, transports_per_peer: int) -> None:
        self._most = transports_per_peer
        self._last: dict[str, _Group] = {}

    def add(self, router: str, transport: str, now: float) -> str | None:
        """A WebRtcTransport is made; the first one of the same participant, if this is a further one.

        Args:
            router: Its router's id.
            transport: Its own.
            now: Monotonic seconds.
        """
        group = self._last.get(router)
        if group is None or group.size >= self._most or now - group.since_s > WITHIN_S:
            self._last[router] = _Group(transport, now)
            return None
        group.size += 1
        return group.first

    def forget(self, router: str, transport: str | None = None) -> None:
        """A router is closed, or a transport of it: nothing is placed beside it any more."""
        group = self._last.get(router)
        if group is not None and transport in (None, group.first):
            del self._last[router]
