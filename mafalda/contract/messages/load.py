"""Load reports: figures of the kernel about a server and its workers, which its agent publishes every second.

A report is the agent's heartbeat too: it is published at each interval, whatever a worker or the log does.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.payload import Kind, Payload
from mafalda.media.model import Model

WorkerReadiness = Literal["ready", "unresponsive"]


class WorkerLoad(Model):
    """One worker over the last interval."""

    worker: Id
    pid: int
    cpu_ratio: float = Field(ge=0, description="CPU seconds a second, from the kernel; 1.0 is one full core.")
    memory_bytes: int = Field(0, ge=0, description="Resident set size.")
    channel_latency_s: float = Field(
        0,
        ge=0,
        description="Round trip of the last probe, a cheap request over the worker's channel, or the age of the oldest "
        "unanswered one if that is greater; grows before the worker saturates.",
    )
    state: WorkerReadiness = Field(
        "ready", description="Unresponsive: the worker has not answered its probe in time. No peer is placed on it."
    )
    routers: int = Field(0, ge=0)
    transports: int = Field(0, ge=0)
    producers: int = Field(0, ge=0)
    consumers: int = Field(0, ge=0)
    data_producers: int = Field(0, ge=0)
    data_consumers: int = Field(0, ge=0)
    relays_in: int = Field(0, ge=0)
    relays_out: int = Field(0, ge=0)
    receive_bps: float = Field(0, ge=0, description="Bits per second received, over all transports.")
    send_bps: float = Field(0, ge=0, description="Bits per second sent, over all transports.")


class ServerLoad(Payload):
    """One server over the last interval; ``as_of_seq`` is the last log entry that the agent had acted on."""

    kind: ClassVar[Kind] = "report"
    action = "server-load"
    server: Id
    incarnation: Id
    as_of_seq: int = Field(0, ge=0)
    interval_s: float = Field(gt=0)
    region: Id | None = None
    draining: bool = False
    cpu_count: int = Field(ge=1)
    cpu_ratio: float = Field(0, ge=0, description="Whole machine, 0 to 1.")
    memory_used_ratio: float = Field(0, ge=0, le=1)
    event_loop_lag_s: float = Field(0, ge=0, description="How late the agent's own loop is.")
    ports_left: int | None = Field(None, ge=0, description="RTC ports not yet bound; None: not limited by ports.")
    udp_buffer_bytes: int | None = Field(
        None,
        ge=0,
        description="Receive buffer of each UDP socket, as far as the kernel gives the 4 MiB that workers ask for.",
    )
    append_error: str | None = Field(
        None, description="Code of the error of the agent's last append, such as log-full; None: it was stored."
    )
    workers: list[WorkerLoad]


REPORTS: tuple[type[Payload], ...] = (ServerLoad,)
