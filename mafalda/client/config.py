"""The SDK's settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ClientConfig(BaseModel):
    """How long a client waits for what. All times are in seconds in which the bus worked; during an outage none passes.

    The exceptions are ``join_timeout_s`` and ``leave_timeout_s``, so that an application is not held up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    join_timeout_s: float = Field(15, gt=0, description="A fleet that restarts a worker answers within seconds.")
    request_timeout_s: float = Field(
        15,
        gt=0,
        description="One intent, until its result. Above an agent's own 10 s for a relay, so that it can refuse it.",
    )
    retry_interval_s: float = Field(
        2, gt=0, description="An intent without a result is appended again, with the same id: it is stored once."
    )
    secrets_wait_s: float = Field(
        0.5, gt=0, description="A stored result came, but not its ICE password: then the agent is queried for it."
    )
    ice_timeout_s: float = Field(
        15,
        gt=0,
        description="A transport that is not connected after this is made anew. ICE's own checks take 5 to 30.",
    )
    heartbeat_interval_s: float = Field(
        15,
        gt=0,
        description="A peer without any media or data queries something this often: agents remove silent peers.",
    )
    reconnect_timeout_s: float | None = Field(
        60, gt=0, description="A room without a place for so long is given up. None: wait for ever."
    )
    handover_timeout_s: float = Field(
        12,
        gt=0,
        description="After a handover the transports at the former place are closed when media comes in at the new "
        "one, or after so long: less than the 15 s for which agents go on.",
    )
    media_wait_s: float = Field(
        4,
        gt=0,
        description="``Reconnected`` waits for media of each consumer; if its producer sends nothing, only so long.",
    )
    producer_wait_s: float = Field(
        30, gt=0, description="A consumer whose producer vanished with its worker waits so long for it to come back."
    )
    leave_timeout_s: float = Field(2, gt=0, description="For the answer to Leave; agents remove silent peers anyway.")
    close_timeout_s: float = Field(5, gt=0, description="For aiortc to close a peer connection.")
    max_queued_frames: int = Field(
        100, ge=1, description="Decoded frames kept for an application that does not take them; then the oldest goes."
    )
    max_queued_messages: int = Field(
        1000, ge=1, description="Data messages kept while reconnecting, or for an application that does not take them."
    )
    max_queued_events: int = Field(10_000, ge=1, description="Room events kept for one iterator; then it fails.")
