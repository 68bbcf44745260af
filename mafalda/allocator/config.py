"""What an allocator can be told, with the reason for each default.

Costs are fractions of one core, from what one worker was measured to carry (1,200-byte packets,
AEAD_AES_256_GCM, which browsers and aiortc negotiate): about 400 consumers of 1 Mbit/s.
What does not belong here: reading files or the environment (``mafalda.cli`` does).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Costs(BaseModel):
    """What something is expected to add to a worker until a report shows it; 1.0 is one full core."""

    model_config = ConfigDict(frozen=True)

    peer: float = Field(
        0.02,
        ge=0,
        description="A peer that was just placed: two transports, audio and video sent, half a dozen consumers. "
        "An advance: what the peer then really opens is drawn from it.",
    )
    one_transport_peer: float = Field(
        0.005, ge=0, description="The same for a peer that is a single transport: a drop-in makes many at once."
    )
    transport: float = Field(0.001, ge=0, description="One DTLS handshake (about 1 ms) and ICE checks for good.")
    producer: float = Field(
        0.003, ge=0, description="Decrypts what one consumer would encrypt, and keeps its statistics."
    )
    consumer: float = Field(0.0025, ge=0, description="One worker carried 400 of 1 Mbit/s.")
    data: float = Field(0.0005, ge=0, description="A data producer or consumer: SCTP, few messages.")
    relay: float = Field(
        0.0015, ge=0, description="Either end of a pipe for one producer: 0.0013 measured for 1 Mbit/s."
    )
    silent_peer: float = Field(
        0.002,
        ge=0,
        description="A worker counts as at least this much for each peer, however little it does: a silent peer "
        "may speak at any moment.",
    )

    def advance(self, *, one_transport: bool) -> float:
        """What a peer that was just placed is expected to open."""
        return self.one_transport_peer if one_transport else self.peer


class AllocatorConfig(BaseModel):
    """One allocator. All allocators of a fleet should be told the same."""

    model_config = ConfigDict(frozen=True)

    name: str = Field("allocator", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="In logs and as the messages' source.")
    policy: str = Field("pack", description="One of mafalda.allocator.core.placement.policy.POLICIES.")
    watermark: float = Field(
        0.60,
        gt=0,
        le=1,
        description="No placement brings a worker above this. A worker that is overloaded stops answering its channel "
        "(14 s for a dump, measured), so it must never get near; media comes in bursts.",
    )
    ceiling: float = Field(
        0.85,
        gt=0,
        le=1,
        description="The same for peers that lost their place, when nothing is left below the watermark: a call that "
        "runs is worth more than headroom.",
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
        description="For so long after our start, or after we could not hear ourselves, no server is lost: agents "
        "reconnect too.",
    )
    overdue_s: float = Field(
        1.0,
        gt=0,
        description="An intent that another allocator was given first is ours after so long; a decision takes 2 ms.",
    )
    join_patience_s: float = Field(
        5.0,
        ge=0,
        description="A join that finds every worker above the watermark waits so long for reports, which end "
        "reservations, or for a new worker, before it is refused. A burst is a queue, not a wall; clients wait 15 s.",
    )
    consume_forget_s: float = Field(
        30.0, gt=0, description="An unanswered consume is forgotten; agents answer in 10 s."
    )
    tick_s: float = Field(0.25, gt=0, description="How often timers are looked at.")
    max_fan_out: int = Field(
        16,
        ge=2,
        description="Relays of one producer from one worker, one of them kept for its own server; then the tree goes "
        "one level deeper.",
    )
    room_candidates: int = Field(
        64, ge=1, description="Of a room's workers, so many newest are tried; the rest are full."
    )
    explained_candidates: int = Field(16, ge=1, description="Candidates named in an explanation; the rest are counted.")
    max_channel_latency_s: float = Field(
        1.0, gt=0, description="A healthy worker answers in 0.1 ms; slower than this it is about to stop answering."
    )
    max_event_loop_lag_s: float = Field(5.0, gt=0, description="An agent that is so late cannot open anything in time.")
    max_memory_ratio: float = Field(0.95, gt=0, le=1, description="Of the whole machine.")
    max_server_cpu_ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of the whole machine. None: not looked at, since a machine that does other things too, at a "
        "lower priority, would refuse everyone.",
    )
    min_ports_left: int = Field(16, ge=0, description="RTC ports that must be left: two transports and their relays.")
    max_in_flight: int = Field(256, ge=1, description="Appends under way at once, over all rooms.")
    max_attempts: int = Field(16, ge=1, description="Conflicts in a row after which a decision waits for the timer.")

    def micro(self, ratio: float) -> int:
        """A fraction of a core in millionths: loads are added and taken away as whole numbers, exactly."""
        return round(ratio * 1_000_000)
