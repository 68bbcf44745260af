"""WebRTC statistics of a client, as it measures them: of each way, and of the streams on it.

A client takes them from ``getStats`` (https://www.w3.org/TR/webrtc-stats/) over an interval. What it does not know is
absent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mafalda.contract.ids import Id
from mafalda.media.model import Model
from mafalda.media.rtp import MediaKind

#: ``up``: from the client to its worker; ``down``: from the worker to the client.
Way = Literal["up", "down"]
#: Best first; ``lost``: nothing arrives.
Quality = Literal["excellent", "good", "poor", "lost"]
#: Of WebRTC: what keeps an encoder below what it was asked for.
QualityLimitation = Literal["none", "cpu", "bandwidth", "other"]

MAX_STREAMS = 16
_LOSS = "Packets lost on the way, of those sent; what is sent again was lost once."

_Ratio = Annotated[float, Field(ge=0, le=1)]
_Milliseconds = Annotated[float, Field(ge=0, le=600_000)]
_Bps = Annotated[int, Field(ge=0, le=1 << 53)]


class StreamStatistics(Model):
    """One producer on a way: sent, or received by a consumer."""

    producer: Id
    media_kind: MediaKind
    bitrate_bps: _Bps | None = Field(None, description="Of all its encodings together.")
    loss_ratio: _Ratio | None = Field(None, description=_LOSS)
    jitter_ms: _Milliseconds | None = None
    frames_per_second: Annotated[float, Field(ge=0, le=1000)] | None = None
    width: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Pixels; of what is sent in several resolutions the highest that is sent."
    )
    height: Annotated[int, Field(ge=0, le=65535)] | None = None
    encodings: Annotated[int, Field(ge=0, le=16)] | None = Field(
        None, description="Of a video that is sent: how many of its encodings are active."
    )
    limitation: QualityLimitation | None = Field(None, description="Of a video that is sent.")
    freezes: Annotated[int, Field(ge=0, le=1 << 31)] | None = Field(
        None, description="Of a video that is received: freezes in the interval."
    )


class WayStatistics(Model):
    """One way: the streams on it together, and the largest of them."""

    way: Way
    quality: Quality = Field(description="By docs/protocol.md#connection-quality.")
    bitrate_bps: _Bps
    loss_ratio: _Ratio | None = Field(None, description=_LOSS)
    jitter_ms: _Milliseconds | None = Field(None, description="The greatest of its streams.")
    round_trip_ms: _Milliseconds | None = None
    available_outgoing_bps: _Bps | None = Field(None, description="Of the way up: the client's own estimate.")
    streams: Annotated[list[StreamStatistics], Field(max_length=MAX_STREAMS)] = Field(
        default_factory=list, description="Those with the highest bitrates."
    )
