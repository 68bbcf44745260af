"""Which servers are silent or lost, from the times of their heartbeats (load reports). Pure.

A server is judged only while this allocator itself can read and append, and for some seconds after it could not (it
just started, was partitioned or was suspended) no server is lost: agents reconnect too.
"""

from __future__ import annotations

from typing import Literal

from mafalda.allocator.core.fleet.candidates import ServerView
from mafalda.allocator.core.fleet.fleet import FleetView

#: What a partitioned allocator cannot do.
Access = Literal["read", "append"]


class ServerLiveness:
    """The liveness of all servers. Times are seconds, monotonic.

    | state | until | servers may be declared lost |
    | --- | --- | --- |
    | catching up | ``begin`` | no |
    | partitioned | each access that failed works again (``reconnected``) | no |
    | in grace | ``grace_until_s`` | no |
    | judging | an access fails (``partitioned``), or this process stood still (``suspended``) | yes |
    """

    def __init__(self, fleet: FleetView) -> None:
        self._fleet = fleet
        self._config = fleet.config
        self._failed: set[Access] = set()
        self.begun = False
        self.grace_until_s = 0.0

    def begin(self, now: float) -> None:
        """The log's past has been read; from now on servers are judged."""
        self.begun = True
        self._start_grace(now)

    def partitioned(self, access: Access) -> bool:
        """The log cannot be read, or not be appended to: nobody is lost until it can. Returns whether that is new."""
        is_new = access not in self._failed
        self._failed.add(access)
        return is_new

    def is_partitioned(self, access: Access) -> bool:
        """Whether this access failed and has not worked again."""
        return access in self._failed

    @property
    def has_failed_access(self) -> bool:
        """Whether what is missing says something about this allocator rather than about servers."""
        return bool(self._failed)

    def reconnected(self, access: Access, now: float) -> None:
        """This access works again; if it had failed, the grace begins, and with it the time of each server."""
        if access in self._failed:
            self._failed.discard(access)
            self._start_grace(now)

    def suspended(self, now: float) -> None:
        """This process stood still until now and received no heartbeats."""
        self._start_grace(now)

    def _start_grace(self, now: float) -> None:
        self.grace_until_s = now + self._config.grace_s
        for server in self._fleet.servers.values():
            server.last_report_s = now
            self._fleet.set_silent(server, False)

    def tick(self, now: float) -> None:
        """Mark the servers of which too many heartbeats are missing as silent."""
        if not self.begun:
            return
        limit = self._config.silent_reports * self._config.report_interval_s
        for server in self._fleet.servers.values():
            self._fleet.set_silent(server, server.up and now - server.last_report_s > limit)

    def lost_servers(self, now: float) -> list[ServerView]:
        """The servers to be declared lost, by id."""
        if not self._is_judging(now):
            return []
        servers = self._fleet.servers
        return [servers[key] for key in sorted(servers) if self._misses_heartbeats(servers[key], now)]

    def is_lost(self, server: ServerView, now: float) -> bool:
        """Whether a server is still to be declared lost: it may have sent a heartbeat since."""
        known = self._fleet.servers.get(server.server) is server
        return known and self._is_judging(now) and self._misses_heartbeats(server, now)

    def _is_judging(self, now: float) -> bool:
        return self.begun and not self._failed and now >= self.grace_until_s

    def _misses_heartbeats(self, server: ServerView, now: float) -> bool:
        limit = max(self._config.lost_reports * self._config.report_interval_s, self._config.lost_after_s)
        return server.up and now - server.last_report_s > limit
