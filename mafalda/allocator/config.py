"""The configuration of an allocator, with the reason for each default.

Costs are fractions of one core, from a measurement of one worker: it carried about 400 consumers of 1 Mbit/s
(1,200-byte packets, AEAD_AES_256_GCM, which browsers and aiortc negotiate).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Costs(BaseModel):
    """The expected load of an object until a load report shows it; 1.0 is one full core."""

    model_config = ConfigDict(frozen=True)

    peer: float = Field(
        0.02,
        ge=0,
        description="First guess for a new peer: two transports, audio and video sent, half a dozen consumers. What "
        "newcomers of a room and of the fleet open replaces it, and what the peer opens is taken out of it.",
    )
    one_transport_peer: float = Field(
        0.005, ge=0, description="The same for a peer with a single transport, of which a drop-in makes many at once."
    )
    audience_peer: float = Field(
        0.002,
        ge=0,
        description="The same for a peer of the audience: one transport, and a few audio streams, each of which costs "
        "a fraction of one of 1 Mbit/s.",
    )
    transport: float = Field(
        0.001, ge=0, description="One DTLS handshake (about 1 ms) and ICE checks while it is open."
    )
    producer: float = Field(0.003, ge=0, description="Decrypts as much as one consumer encrypts, and keeps statistics.")
    consumer: float = Field(0.0025, ge=0, description="One worker carried 400 of 1 Mbit/s.")
    data: float = Field(0.0005, ge=0, description="A data producer or consumer: SCTP, few messages.")
    relay: float = Field(
        0.0015, ge=0, description="Either end of a pipe for one producer: 0.0013 measured for 1 Mbit/s."
    )
    silent_peer: float = Field(
        0.002,
        ge=0,
        description="The minimum load for each peer of a worker, whatever is measured: a silent peer may begin to send "
        "at any moment.",
    )
    silent_audience: float = Field(
        0.0001,
        ge=0,
        description="The same for each peer of the audience, which cannot begin to send: ICE checks and RTCP reports.",
    )


class AllocatorConfig(BaseModel):
    """One allocator. All allocators of a fleet should have the same configuration, but for the name."""

    model_config = ConfigDict(frozen=True)

    name: str = Field("allocator", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="In logs and as the messages' source.")
    policy: str = Field("pack", description="One of mafalda.allocator.core.placement.policy.POLICIES.")
    watermark: float = Field(
        0.60,
        gt=0,
        le=1,
        description="No placement brings a worker above this. A worker that is overloaded stops answering its channel "
        "(14 s for a dump, measured), and media comes in bursts, so the distance to saturation is large.",
    )
    ceiling: float = Field(
        0.85,
        gt=0,
        le=1,
        description="The same for unplaced peers when no worker is left below the watermark: a running call is worth "
        "more than headroom.",
    )
    costs: Costs = Costs()
    settle_s: float = Field(
        5.0,
        ge=0,
        description="Seconds of reports after which a reservation ends: joining, ICE, DTLS and the first media take "
        "about 1 s here, several over bad networks, and a CPU figure is an average over its interval.",
    )
    report_interval_s: float = Field(1.0, gt=0, description="How often agents report.")
    silent_reports: float = Field(2.0, gt=0, description="Missing reports after which a server gets no placement.")
    lost_reports: float = Field(3.0, gt=0, description="Missing reports after which a server is lost.")
    lost_after_s: float = Field(3.0, ge=0, description="A server is never lost before so many seconds of silence.")
    grace_s: float = Field(
        5.0,
        ge=0,
        description="For so long after its start, or after it could not reach the bus, an allocator declares no server "
        "lost: agents reconnect too.",
    )
    overdue_s: float = Field(
        1.0,
        gt=0,
        description="An intent of another allocator's room is decided by all if it has no result after so long, and "
        "that one finishes no decision; a decision takes 2 ms.",
    )
    allocator_report_s: float = Field(
        0.5, gt=0, description="How often an allocator reports to the others that it works, and how far it is."
    )
    allocator_timeout_s: float = Field(
        3.0,
        gt=0,
        description="The rooms of an allocator that has not reported for so long are divided between the others. In a "
        "burst its reports wait behind the log's entries, for a second or more.",
    )
    join_timeout_s: float = Field(
        10.0,
        ge=0,
        description="A join that finds every worker full of reservations waits so long for reports, which end them, "
        "before it is rejected. Reservations end after settle_s; clients wait 15 s.",
    )
    full_timeout_s: float = Field(
        0.75,
        ge=0,
        description="The same for a join that no report can help, because the workers are full by what they measure: "
        "long enough for a worker that died to be replaced (0.2 s).",
    )
    consume_forget_s: float = Field(
        30.0,
        gt=0,
        description="An intent of a placed peer that has no result after so long is closed; agents answer in 10 s.",
    )
    max_parallel_moves: int = Field(
        4,
        ge=1,
        description="So many peers of a draining server are moved at a time, and so many more each tick (16 a second): "
        "each opens its transports, producers and consumers elsewhere at once.",
    )
    move_timeout_s: float = Field(
        5.0, gt=0, description="A move that no agent has reported for so long counts no more among those under way."
    )
    tick_s: float = Field(0.25, gt=0, description="How often everything that is due is decided.")
    max_fan_out: int = Field(
        16,
        ge=2,
        description="The greatest number of relays of one producer from one worker, one of them kept for its own "
        "server; beyond that the tree grows one level deeper.",
    )
    room_candidates: int = Field(
        64, ge=1, description="So many of a room's workers are tried, the newest first; the older ones are full."
    )
    tenant_peers: int | None = Field(
        None,
        ge=1,
        description="The most peers of one tenant at a time (each transport of a drop-in is one); joins beyond are "
        "refused. Joins in the same moment may exceed it a little. None: any number.",
    )
    room_peers: int | None = Field(
        None,
        ge=1,
        description="The most peers of one room at a time, the audience included; joins beyond are refused. None: any "
        "number.",
    )
    explained_candidates: int = Field(16, ge=1, description="Candidates named in an explanation; the rest are counted.")
    max_channel_latency_s: float = Field(
        1.0,
        gt=0,
        description="A healthy worker answers in 0.1 ms; one that is slower than this is about to stop answering.",
    )
    max_event_loop_lag_s: float = Field(
        5.0, gt=0, description="An agent with such a delay cannot open anything in time."
    )
    max_memory_ratio: float = Field(0.95, gt=0, le=1, description="Of the whole machine.")
    max_server_cpu_ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of the whole machine. None: not checked, since a machine that also runs other processes, at a "
        "lower priority, would refuse every peer.",
    )
    min_ports_left: int = Field(16, ge=0, description="RTC ports that must be left: two transports and their relays.")
    snapshot_interval_s: float = Field(
        60.0,
        gt=0,
        description="Seconds between two looks whether a snapshot is due, plus up to half as much at random. A reader "
        "of the fleet's state folds what came since, 15,000 entries a second.",
    )
    snapshot_min_entries: int = Field(
        1_000, ge=1, description="A snapshot is due when the log has so many more entries than the last one."
    )
    log_keep_s: float | None = Field(
        7 * 86_400.0,
        ge=120,
        description="Entries that are older, and covered by a snapshot (and by the archive, if there is one), are "
        "discarded from the log. At least the time in which an id is stored once. None: whatever their age.",
    )
    log_keep_bytes: int | None = Field(
        8 * 1024**3,
        gt=0,
        description="The same for the oldest entries of a log that is larger. None: whatever its size.",
    )
    max_in_flight: int = Field(
        16,
        ge=1,
        description="Decisions that are not stored yet, over all rooms. What waits gets its turns in the order of "
        "aio.fair_queue, so that one join does not wait for thousands that came before it, but for as many decisions "
        "as are confirmed at once. 16 of them last longer than an append: 6 ms of deciding.",
    )
    max_attempts: int = Field(
        16, ge=1, description="Conflicts in a row after which a stimulus waits for the next tick."
    )

    @property
    def source(self) -> str:
        """The source of an allocator's messages."""
        return f"/mafalda/allocator/{self.name}"

    def micro(self, ratio: float) -> int:
        """A fraction of a core in millionths: sums of integers are exact."""
        return round(ratio * 1_000_000)
