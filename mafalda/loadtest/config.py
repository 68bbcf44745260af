"""What a load test does. Built by the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mafalda.contract.ids import Id
from mafalda.loadtest.rtp import StreamShape


class LoadTestConfig(BaseModel):
    """Peers, what they send, and how they come and go. Numbers of peers are for each room."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rooms: int = Field(1, ge=1, le=10_000)
    room_prefix: Id = Field("load-test", description="Rooms are named by it and a number.")
    audio_publishers: int = Field(1, ge=0, le=10_000, description="Peers that send Opus.")
    video_publishers: int = Field(0, ge=0, le=10_000, description="Peers that send VP8.")
    viewers: int = Field(10, ge=0, le=100_000, description="Peers that receive all that is published in their room.")
    participants: int = Field(
        0, ge=0, le=10_000, description="Peers that send Opus and receive the loudest participants."
    )
    loudest: int = Field(3, ge=1, le=64, description="So many participants are received by each.")
    speakers: int = Field(3, ge=1, le=64, description="So many participants are loud at a time.")
    turn_s: float = Field(5.0, ge=1, description="Seconds until others speak.")
    audience: bool = Field(False, description="Whether the viewers join as audience.")
    region: Id | None = Field(None, description="Where all peers say that they are; None: nowhere.")

    audio_frame_ms: Literal[10, 20, 40, 60] = Field(20, description="Milliseconds of sound in a packet.")
    audio_bitrate_bps: int = Field(32_000, ge=6_000, le=510_000)
    video_bitrate_bps: int = Field(1_000_000, ge=50_000, le=50_000_000)
    video_fps: float = Field(30.0, ge=1, le=120)

    duration_s: float = Field(30.0, gt=0, description="Seconds that are measured, once all have joined.")
    join_rate: float = Field(20.0, ge=0, description="Peers that begin to join each second; 0: all at once.")
    churn: float = Field(0.0, ge=0, description="Viewers that leave each second, each replaced by a new one.")
    request_timeout_s: float = Field(30.0, gt=0, description="For each request to the fleet, in seconds.")
    media_timeout_s: float = Field(
        10.0, gt=0, description="A viewer without any packet of a stream so long after it asked for it has failed."
    )
    silence_s: float = Field(3.0, gt=0, description="A stream that is silent so long at the end has failed.")
    receive_buffer_bytes: int = Field(4 * 1024 * 1024, ge=65536, description="Of each socket.")

    @model_validator(mode="after")
    def _check_speakers(self) -> LoadTestConfig:
        if self.participants and not self.speakers <= min(self.loudest, self.participants):
            raise ValueError("speakers must be at most loudest, and at most participants")
        return self

    @property
    def audio(self) -> StreamShape:
        """What an audio publisher sends."""
        return StreamShape("audio", self.audio_bitrate_bps, 1000 / self.audio_frame_ms)

    @property
    def video(self) -> StreamShape:
        """What a video publisher sends."""
        return StreamShape("video", self.video_bitrate_bps, self.video_fps)

    @property
    def publishers(self) -> list[StreamShape]:
        """What each publisher of a room sends."""
        return [self.audio] * self.audio_publishers + [self.video] * self.video_publishers
