"""Which servers are silent or lost, from the times of their load reports. Pure.

A server is judged only while this allocator itself can reach the bus, and for some seconds after it could not (it just
started, was cut off or was suspended) no server is lost: agents reconnect too.
"""

from __future__ import annotations

from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.fleet.fleet import FleetView


class Liveness:
    """The liveness of all servers. Times are seconds, monotonic.

    ``begun`` is whether the log's past has been read. Until ``grace_until_s`` no server is lost.
    """

    def __init__(self, fleet: FleetView) -> None:
        self._fleet = fleet
        self._config = fleet.config
        self.begun = False
        self.grace_until_s = 0.0

    def begin(self, now: float) -> None:
        """The log's past has been read; from now on servers are judged."""
        self.begun = True
        self.reconnected(now)

    def partitioned(self) -> None:
        """This allocator does not reach the bus: missing reports mean nothing until ``reconnected``."""
        self.grace_until_s = float("inf")

    def reconnected(self, now: float) -> None:
        """This allocator could not receive reports until now; the time of each server starts again."""
        self.grace_until_s = now + self._config.grace_s
        for server in self._fleet.servers.values():
            server.last_report_s = now

    def tick(self, now: float) -> None:
        """Mark the servers of which too many reports are missing as silent."""
        if not self.begun:
            return
        limit = self._config.silent_reports * self._config.report_interval_s
        for server in self._fleet.servers.values():
            self._fleet.set_silent(server, server.up and now - server.last_report_s > limit)

    def lost_servers(self, now: float) -> list[ServerView]:
        """The servers to be declared lost, by id."""
        if not self.begun or now < self.grace_until_s:
            return []
        limit = max(self._config.lost_reports * self._config.report_interval_s, self._config.lost_after_s)
        servers = self._fleet.servers
        return [servers[key] for key in sorted(servers) if servers[key].up and now - servers[key].last_report_s > limit]
