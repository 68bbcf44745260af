"""Why no peer can be placed on a worker, whatever the peer: named reasons, checked in a fixed order. Pure."""

from __future__ import annotations

from collections.abc import Callable

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.fleet.candidates import ServerView, WorkerView

SERVER_NOT_UP = "server-not-up"
SERVER_DRAINING = "server-draining"
SERVER_SILENT = "server-silent"
NO_REPORT_YET = "no-report-yet"
WORKER_UNRESPONSIVE = "worker-unresponsive"
CHANNEL_SLOW = "channel-slow"
AGENT_LATE = "agent-late"
MEMORY_SHORT = "memory-short"
SERVER_BUSY = "server-busy"
PORTS_SHORT = "ports-short"

ServerFilter = Callable[[ServerView, AllocatorConfig], bool]


def _no_report_yet(server: ServerView, _: AllocatorConfig) -> bool:
    """Known from the log's past only. A server whose start was seen live needs no report."""
    return not server.reported and not server.seen_starting


def _server_busy(server: ServerView, config: AllocatorConfig) -> bool:
    return config.max_server_cpu_ratio is not None and server.cpu_ratio > config.max_server_cpu_ratio


def _ports_short(server: ServerView, config: AllocatorConfig) -> bool:
    return server.ports_left is not None and server.ports_left < config.min_ports_left


#: In this order; the first that holds is the reason, for all workers of the server.
SERVER_OBSTACLES: tuple[tuple[str, ServerFilter], ...] = (
    (SERVER_NOT_UP, lambda server, _: not server.up),
    (SERVER_DRAINING, lambda server, _: server.draining or server.reports_draining),
    (SERVER_SILENT, lambda server, _: server.silent),
    (NO_REPORT_YET, _no_report_yet),
    (AGENT_LATE, lambda server, config: server.event_loop_lag_s > config.max_event_loop_lag_s),
    (MEMORY_SHORT, lambda server, config: server.memory_ratio > config.max_memory_ratio),
    (SERVER_BUSY, _server_busy),
    (PORTS_SHORT, _ports_short),
)


def server_obstacle(server: ServerView, config: AllocatorConfig) -> str | None:
    """The reason why no peer can be placed on a server now, or ``None``."""
    for name, holds in SERVER_OBSTACLES:
        if holds(server, config):
            return name
    return None


def worker_obstacle(worker: WorkerView, config: AllocatorConfig) -> str | None:
    """The worker's own reason, where its server has none."""
    if worker.unresponsive:
        return WORKER_UNRESPONSIVE
    return CHANNEL_SLOW if worker.channel_latency_s > config.max_channel_latency_s else None
