"""Server-side mediasoup for Python: a driver of real mediasoup-worker processes. ``docs/driver.md`` explains it.

What does not belong here: NATS, rooms, placement. It stands alone but for the words of ``mafalda.contract``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mafalda.mediasoup.active_speaker_observer import ActiveSpeakerObserver
    from mafalda.mediasoup.audio_level_observer import AudioLevelObserver, Volume
    from mafalda.mediasoup.consumer import Consumer
    from mafalda.mediasoup.data_consumer import DataConsumer
    from mafalda.mediasoup.data_message import DataMessage
    from mafalda.mediasoup.data_producer import DataProducer
    from mafalda.mediasoup.direct_transport import DirectTransport
    from mafalda.mediasoup.events import Event
    from mafalda.mediasoup.messages import MEDIASOUP_VERSION
    from mafalda.mediasoup.pipe_transport import PipeTransport
    from mafalda.mediasoup.plain_transport import PlainTransport
    from mafalda.mediasoup.producer import Producer
    from mafalda.mediasoup.router import Router
    from mafalda.mediasoup.rtp_observer import RtpObserver
    from mafalda.mediasoup.scalability import parse_scalability_mode
    from mafalda.mediasoup.sctp_limits import SctpLimits
    from mafalda.mediasoup.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES
    from mafalda.mediasoup.transport import Transport
    from mafalda.mediasoup.webrtc_server import WebRtcServer
    from mafalda.mediasoup.webrtc_transport import WebRtcTransport
    from mafalda.mediasoup.worker import Worker, create_worker

__all__ = [
    "MEDIASOUP_VERSION",
    "SUPPORTED_RTP_CAPABILITIES",
    "ActiveSpeakerObserver",
    "AudioLevelObserver",
    "Consumer",
    "DataConsumer",
    "DataMessage",
    "DataProducer",
    "DirectTransport",
    "Event",
    "PipeTransport",
    "PlainTransport",
    "Producer",
    "Router",
    "RtpObserver",
    "SctpLimits",
    "Transport",
    "Volume",
    "WebRtcServer",
    "WebRtcTransport",
    "Worker",
    "create_worker",
    "parse_scalability_mode",
]

# Where each name is; loaded at its first use, because the drop-in needs the codec and nothing else, and starts often.
_HOMES = {
    "ActiveSpeakerObserver": "active_speaker_observer",
    "AudioLevelObserver": "audio_level_observer",
    "Volume": "audio_level_observer",
    "Consumer": "consumer",
    "DataConsumer": "data_consumer",
    "DataMessage": "data_message",
    "DataProducer": "data_producer",
    "DirectTransport": "direct_transport",
    "Event": "events",
    "MEDIASOUP_VERSION": "messages",
    "PipeTransport": "pipe_transport",
    "PlainTransport": "plain_transport",
    "Producer": "producer",
    "Router": "router",
    "RtpObserver": "rtp_observer",
    "parse_scalability_mode": "scalability",
    "SctpLimits": "sctp_limits",
    "SUPPORTED_RTP_CAPABILITIES": "supported_rtp_capabilities",
    "Transport": "transport",
    "WebRtcServer": "webrtc_server",
    "WebRtcTransport": "webrtc_transport",
    "Worker": "worker",
    "create_worker": "worker",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
