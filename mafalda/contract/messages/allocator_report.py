"""What an allocator tells the other allocators and operators about itself, outside the log.

A report is its heartbeat: allocators divide the rooms between those that report.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.contract.messages.payload import Kind, Payload
from mafalda.media.model import Model

AllocatorStatus = Literal["working", "leaving"]
ReservationKind = Literal["decision", "advance", "object"]


class LateReservation(Model):
    """Cost that an allocator has kept reserved on a worker for longer than it should have to."""

    kind: ReservationKind = Field(
        description="Of a decision that is not in the log yet; of what a new peer is expected to open (advance); of "
        "an object that was opened, or an end of a relay."
    )
    server: Id
    worker: Id
    cost_ratio: float = Field(ge=0, description="Cores; 1.0 is one full core.")
    age_s: float = Field(ge=0, description="Since the decision, or since the log entry was read.")
    room: Id
    peer: Id | None = Field(None, description="None: a relay's, or a decision that places no peer.")
    seq: int | None = Field(None, ge=1, description="The log entry that it began with; None: a decision.")


class AllocatorReport(Payload):
    """One allocator; published at each interval, and at once when it has heard of another one."""

    kind: ClassVar[Kind] = "report"
    action = "allocator-report"
    allocator: Id = Field(description="Of one process: a name with a random end.")
    status: AllocatorStatus = Field("working", description="Leaving: it takes nothing more; its rooms are the others'.")
    as_of_seq: int = Field(0, ge=0, description="The last log entry that it has read.")
    decided: int = Field(0, ge=0, description="Decisions that it has appended since its start.")
    late_reservations: list[LateReservation] = Field(
        [], description="Of reservations that should have ended, the oldest ones. Empty: none leaks."
    )


ALLOCATOR_REPORTS: tuple[type[Payload], ...] = (AllocatorReport,)
