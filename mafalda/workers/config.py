"""The agent's configuration, and what follows from it for its workers. ``mafalda.cli`` builds it."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mafalda.contract.ids import Id
from mafalda.contract.limits import PeerLimits
from mafalda.media.rtp import ListenInfo, PortRange, RtpCodecCapability

_WILDCARDS = ("0.0.0.0", "::")


def default_server_id() -> str:
    """The host's name as a legal id."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "server"


def default_media_codecs() -> tuple[RtpCodecCapability, ...]:
    """Opus, VP8, VP9, AV1 and the two H264 profiles that browsers offer."""
    h264 = {"packetization-mode": 1, "level-asymmetry-allowed": 1}
    codecs: list[dict[str, object]] = [
        {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2},
        {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000},
        {"kind": "video", "mimeType": "video/VP9", "clockRate": 90000, "parameters": {"profile-id": 0}},
        {"kind": "video", "mimeType": "video/VP9", "clockRate": 90000, "parameters": {"profile-id": 2}},
        {
            "kind": "video",
            "mimeType": "video/H264",
            "clockRate": 90000,
            "parameters": {**h264, "profile-level-id": "42e01f"},
        },
        {
            "kind": "video",
            "mimeType": "video/H264",
            "clockRate": 90000,
            "parameters": {**h264, "profile-level-id": "4d0032"},
        },
        {"kind": "video", "mimeType": "video/AV1", "clockRate": 90000},
    ]
    return tuple(RtpCodecCapability.model_validate(codec) for codec in codecs)


#: A tenth of what would burden an agent, and many times what a client needs.
DEFAULT_PEER_LIMITS = PeerLimits(
    messages_per_s=200, bytes_per_s=2 * 1024**2, queries_per_s=100, transports=64, producers=128, consumers=8192
)


class AgentConfig(BaseModel):
    """The configuration of one server's agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: Id = Field(default_factory=default_server_id, description="Unique in the fleet; subjects carry it.")
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="One a core: a worker is one thread."
    )
    worker_bin: Path | None = Field(None, description="mediasoup-worker; None: found as the driver finds it.")
    region: Id | None = Field(None, description="Where this server is; None: nowhere in particular.")

    listen_ip: str = Field("127.0.0.1", description="Where media is received; loopback by default.")
    announced_address: str | None = Field(
        None, description="How clients and other servers reach listen_ip; None: it is reachable as it is."
    )
    rtc_min_port: int | None = Field(None, ge=1, le=65535, description="None: the worker's own range (10000 to 59999).")
    rtc_max_port: int | None = Field(None, ge=1, le=65535, description="None: as above.")
    webrtc: Literal["server", "ports"] = Field(
        "server",
        description="'server': all clients of a worker share its one port (UDP and TCP), so that a firewall needs few; "
        "'ports': a port for each transport.",
    )
    webrtc_server_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of worker slot 0, the next slots take the next ones. None: any free one.",
    )
    media_codecs: tuple[RtpCodecCapability, ...] = Field(
        default_factory=default_media_codecs, description="Of every router. The same in the whole fleet."
    )
    enable_tcp: bool = Field(True, description="Whether clients may ask for ICE over TCP.")

    relay_srtp: Literal["between-servers", "always", "never"] = Field(
        "between-servers", description="Which relays are encrypted. Traffic inside one machine does not leave it."
    )
    relay_key_frame_request_delay_ms: int = Field(
        250,
        ge=0,
        description="Milliseconds between key frame requests that a relay passes on: however many viewers come "
        "at once, the origin is asked at most so often. 0: every request.",
    )
    audio_level_interval_ms: int = Field(
        300,
        ge=250,
        le=5000,
        description="How often loudness is measured for subscriptions to the loudest producers, in milliseconds. "
        "Where less than ten packets come in that time, at least each 750 ms.",
    )
    relay_unused_s: float = Field(10.0, ge=0, description="A relay without consumers lives this long, in seconds.")
    relay_pause_after_s: float = Field(
        0.5,
        ge=0,
        description="A relay whose consumers are all paused is paused after this long, in seconds: consumers start "
        "paused and are resumed at once as a rule. It flows again at once.",
    )
    relay_open_timeout_s: float = Field(8.0, gt=0, description="Seconds; less than consume_timeout_s.")
    consume_timeout_s: float = Field(10.0, gt=0, description="A consume waits this long for its relay, in seconds.")

    report_interval_s: float = Field(1.0, gt=0, description="Seconds between load reports.")
    sample_interval_s: float = Field(10.0, gt=0, description="Seconds between load reports that go into the log.")
    ice_grace_s: float = Field(
        15.0,
        ge=0,
        description="A peer all of whose transports are disconnected is gone after this, in seconds. mediasoup notices "
        "a vanished client after its consent timeout of 30 s, which comes before.",
    )
    idle_grace_s: float = Field(
        60.0,
        ge=0,
        description="A peer that never connected a transport and asks for nothing is gone after this; seconds.",
    )

    peer_limits: PeerLimits = Field(
        DEFAULT_PEER_LIMITS,
        description="What each peer may use, but for those that speak the worker's channel (the drop-in). A client "
        "that consumes 500 producers one by one sends 1,000 intents of 2 KB at once.",
    )
    limits_burst_s: float = Field(
        10.0, gt=0, description="A peer may send so many seconds' worth of its limits at once, after a pause."
    )
    room_producers: int | None = Field(
        None, ge=1, description="Producers and data producers of one room at a time. None: any number."
    )
    handover_s: float = Field(
        15.0,
        ge=0,
        description="A peer that was moved while its server drains is served at its former place until its client has "
        "moved, at most so long, in seconds: ICE, DTLS and the first picture take 0.1 to 2 s, several on a bad "
        "network or a busy device.",
    )

    request_timeout_s: float = Field(10.0, gt=0, description="For each request to a worker, in seconds.")
    agent_request_timeout_s: float = Field(5.0, gt=0, description="For each request to another agent, in seconds.")
    worker_probe_timeout_s: float = Field(
        1.0,
        gt=0,
        description="A worker that has not answered its probe for so long, in seconds, is unresponsive: no peer is "
        "placed on it. A healthy one answers in 0.1 ms.",
    )
    worker_unresponsive_kill_s: float = Field(
        8.0,
        gt=0,
        description="A worker that has not answered its probe for so long, in seconds, is killed, and its peers move; "
        "media runs on the same event loop as the answers. Less than request_timeout_s, so that peers that were just "
        "placed on it move too, rather than be evicted.",
    )
    restart_backoff_s: float = Field(
        0.2, gt=0, description="Before a dead worker is started again; doubles, in seconds."
    )
    restart_backoff_max_s: float = Field(30.0, gt=0, description="Greatest such wait, in seconds.")
    crash_loop_s: float = Field(10.0, gt=0, description="A worker that lived less than this counts as crash-looping.")
    stop_timeout_s: float = Field(3.0, gt=0, description="For appending the server's stop at the end, in seconds.")
    drain_grace_s: float = Field(
        20.0,
        ge=0,
        description="Seconds to drain after SIGTERM before the agent stops; 0: it stops at once. Kubernetes kills a "
        "pod 30 s after its SIGTERM by default, systemd after 90 s, Docker after 10 s (then set it lower); about 16 "
        "peers are moved in a second.",
    )
    worker_log_level: Literal["debug", "warn", "error", "none"] = "warn"

    @model_validator(mode="after")
    def _is_reachable(self) -> AgentConfig:
        if self.listen_ip in _WILDCARDS and self.announced_address is None:
            raise ValueError("announced_address is needed when listen_ip is every address of the machine")
        if self.worker_unresponsive_kill_s <= self.worker_probe_timeout_s:
            raise ValueError("worker_unresponsive_kill_s must be greater than worker_probe_timeout_s")
        if (self.rtc_min_port is None) != (self.rtc_max_port is None):
            raise ValueError("rtc_min_port and rtc_max_port go together")
        if self.rtc_min_port and self.rtc_max_port and self.rtc_min_port > self.rtc_max_port:
            raise ValueError("rtc_min_port is greater than rtc_max_port")
        return self

    @property
    def address(self) -> str:
        """How this server is reached from outside."""
        return self.announced_address or self.listen_ip

    def webrtc_listen_infos(self, *, slot: int | None, tcp: bool) -> list[ListenInfo]:
        """Where WebRTC transports listen: on the port of a worker's slot (if ports are fixed), else on any."""
        port = None if slot is None or self.webrtc_server_port is None else self.webrtc_server_port + slot
        protocols: list[Literal["udp", "tcp"]] = ["udp", "tcp"] if tcp and self.enable_tcp else ["udp"]
        return [
            ListenInfo(
                protocol=protocol,
                ip=self.listen_ip,
                announced_address=self.announced_address,
                port=port,
                port_range=self.port_range if port is None else None,
            )
            for protocol in protocols
        ]

    @property
    def port_range(self) -> PortRange | None:
        """RTC ports, if limited."""
        if self.rtc_min_port is None or self.rtc_max_port is None:
            return None
        return PortRange(min=self.rtc_min_port, max=self.rtc_max_port)
