"""Why a worker cannot be taken: each reason has a name, and is asked in a fixed order. Pure.

An *obstacle* is the worker's own, whoever asks. The other names say why a fit worker was passed over
in one decision. What does not belong here: how fit ones are compared (``scores``).
"""

from __future__ import annotations

from collections.abc import Callable

from mafalda.allocator.candidates import WorkerView
from mafalda.allocator.config import AllocatorConfig

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

Filter = Callable[[WorkerView, AllocatorConfig], bool]


def _no_report_yet(worker: WorkerView, _: AllocatorConfig) -> bool:
    """Known from the log's past only. One that started while we watched is believed."""
    return not worker.server.reported and not worker.server.seen_starting


def _server_busy(worker: WorkerView, config: AllocatorConfig) -> bool:
    return config.max_server_cpu_ratio is not None and worker.server.cpu_ratio > config.max_server_cpu_ratio


def _ports_short(worker: WorkerView, config: AllocatorConfig) -> bool:
    return worker.server.ports_left is not None and worker.server.ports_left < config.min_ports_left


#: In this order; the first that holds is the reason.
OBSTACLES: tuple[tuple[str, Filter], ...] = (
    (SERVER_NOT_UP, lambda worker, _: not worker.server.up),
    (SERVER_DRAINING, lambda worker, _: worker.server.draining or worker.server.says_draining),
    (SERVER_SILENT, lambda worker, _: worker.server.silent),
    (NO_REPORT_YET, _no_report_yet),
    (CHANNEL_SLOW, lambda worker, config: worker.channel_latency_s > config.max_channel_latency_s),
    (AGENT_LATE, lambda worker, config: worker.server.event_loop_lag_s > config.max_event_loop_lag_s),
    (MEMORY_SHORT, lambda worker, config: worker.server.memory_ratio > config.max_memory_ratio),
    (SERVER_BUSY, _server_busy),
    (PORTS_SHORT, _ports_short),
)


def obstacle(worker: WorkerView, config: AllocatorConfig) -> str | None:
    """The named reason for which nobody may be placed on a worker now, or ``None``."""
    for name, holds in OBSTACLES:
        if holds(worker, config):
            return name
    return None
