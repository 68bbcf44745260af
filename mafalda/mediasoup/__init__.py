"""Server-side mediasoup for Python: a driver of real mediasoup-worker processes. ``docs/driver.md`` explains it.

What does not belong here: NATS, rooms, placement. It stands alone but for the words of ``mafalda.contract``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mafalda.mediasoup.channel.messages import MEDIASOUP_VERSION
    from mafalda.mediasoup.endpoints.consumer import Consumer
    from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
    from mafalda.mediasoup.endpoints.data_message import DataMessage
    from mafalda.mediasoup.endpoints.data_producer import DataProducer
    from mafalda.mediasoup.endpoints.producer import Producer
    from mafalda.mediasoup.endpoints.scalability import parse_scalability_mode
    from mafalda.mediasoup.objects.events import Event
    from mafalda.mediasoup.objects.router import Router
    from mafalda.mediasoup.objects.webrtc_server import WebRtcServer
    from mafalda.mediasoup.objects.worker import Worker, create_worker
    from mafalda.mediasoup.observers.active_speaker_observer import ActiveSpeakerObserver
    from mafalda.mediasoup.observers.audio_level_observer import AudioLevelObserver, Volume
    from mafalda.mediasoup.observers.rtp_observer import RtpObserver
    from mafalda.mediasoup.ortc.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES
    from mafalda.mediasoup.transports.direct_transport import DirectTransport
    from mafalda.mediasoup.transports.pipe_transport import PipeTransport
    from mafalda.mediasoup.transports.plain_transport import PlainTransport
    from mafalda.mediasoup.transports.sctp_limits import SctpLimits
    from mafalda.mediasoup.transports.transport import Transport
    from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport

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
_MODULES = {
    "MEDIASOUP_VERSION": "channel.messages",
    "Consumer": "endpoints.consumer",
    "DataConsumer": "endpoints.data_consumer",
    "DataMessage": "endpoints.data_message",
    "DataProducer": "endpoints.data_producer",
    "Producer": "endpoints.producer",
    "parse_scalability_mode": "endpoints.scalability",
    "Event": "objects.events",
    "Router": "objects.router",
    "WebRtcServer": "objects.webrtc_server",
    "Worker": "objects.worker",
    "create_worker": "objects.worker",
    "ActiveSpeakerObserver": "observers.active_speaker_observer",
    "AudioLevelObserver": "observers.audio_level_observer",
    "Volume": "observers.audio_level_observer",
    "RtpObserver": "observers.rtp_observer",
    "SUPPORTED_RTP_CAPABILITIES": "ortc.supported_rtp_capabilities",
    "DirectTransport": "transports.direct_transport",
    "PipeTransport": "transports.pipe_transport",
    "PlainTransport": "transports.plain_transport",
    "SctpLimits": "transports.sctp_limits",
    "Transport": "transports.transport",
    "WebRtcTransport": "transports.webrtc_transport",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
