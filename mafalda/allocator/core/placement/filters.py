"""Why a worker cannot be taken: each reason has a name, and is asked in a fixed order. Pure.

An *obstacle* is the server's or the worker's own, whoever asks. The other names say why a fit worker was passed over
in one decision. What does not belong here: how fit ones are compared (``scores``).
"""

from __future__ import annotations

from collections.abc import Callable

from mafalda.allocator.config import AllocatorConfig
from mafalda.allocator.core.state.candidates import ServerView, WorkerView

CHOSEN = "chosen"

# Obstacles.
SERVER_NOT_UP = "server-not-up"
SERVER_DRAINING = "server-draining"
SERVER_SILENT = "server-silent"
NO_REPORT_YET = "no-report-yet"
CHANNEL_SLOW = "channel-slow"
AGENT_LATE = "agent-late"
MEMORY_SHORT = "memory-short"
SERVER_BUSY = "server-busy"
PORTS_SHORT = "ports-short"

# Passed over in one decision.
ABOVE_WATERMARK = "above-watermark"
LESS_BUSY = "less-busy"
BUSIER = "busier"
ROOM_ELSEWHERE = "room-elsewhere"
FRESH_NOT_NEEDED = "fresh-not-needed"
OTHER_REGION = "other-region"
NOT_DRAWN = "not-drawn"

# A relay's source.
FAN_OUT_FULL = "fan-out-full"
STILL_OPENING = "still-opening"
FARTHER = "farther"

ServerFilter = Callable[[ServerView, AllocatorConfig], bool]


def _no_report_yet(server: ServerView, _: AllocatorConfig) -> bool:
    """Known from the log's past only. One that started while we watched is believed."""
    return not server.reported and not server.seen_starting


def _server_busy(server: ServerView, config: AllocatorConfig) -> bool:
    return config.max_server_cpu_ratio is not None and server.cpu_ratio > config.max_server_cpu_ratio


def _ports_short(server: ServerView, config: AllocatorConfig) -> bool:
    return server.ports_left is not None and server.ports_left < config.min_ports_left


#: In this order; the first that holds is the reason, for all workers of the server.
SERVER_OBSTACLES: tuple[tuple[str, ServerFilter], ...] = (
    (SERVER_NOT_UP, lambda server, _: not server.up),
    (SERVER_DRAINING, lambda server, _: server.draining or server.says_draining),
    (SERVER_SILENT, lambda server, _: server.silent),
    (NO_REPORT_YET, _no_report_yet),
    (AGENT_LATE, lambda server, config: server.event_loop_lag_s > config.max_event_loop_lag_s),
    (MEMORY_SHORT, lambda server, config: server.memory_ratio > config.max_memory_ratio),
    (SERVER_BUSY, _server_busy),
    (PORTS_SHORT, _ports_short),
)


def server_obstacle(server: ServerView, config: AllocatorConfig) -> str | None:
    """The named reason for which nobody may be placed on a server now, or ``None``."""
    for name, holds in SERVER_OBSTACLES:
        if holds(server, config):
            return name
    return None


def worker_obstacle(worker: WorkerView, config: AllocatorConfig) -> str | None:
    """The worker's own reason, where its server has none."""
    return CHANNEL_SLOW if worker.channel_latency_s > config.max_channel_latency_s else None
