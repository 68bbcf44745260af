"""Server-side mediasoup for Python: a driver of real mediasoup-worker processes (``docs/driver.md``).

It stands alone: of Mafalda it imports nothing but the leaf packages ``mafalda.errors`` (base classes of its errors),
``mafalda.media`` (RTP and transport parameters) and ``mafalda.aio`` (asyncio tools). Each folder imports only those
after it: ``worker`` (a process and its objects), ``router``, ``transports``, ``endpoints`` (producers and consumers),
``base`` (what all objects have in common), ``channel`` (requests, answers, notifications), ``codec`` (flatbuffers),
``fbs`` (the generated schema). ``ortc`` negotiates RTP parameters; ``install`` finds or builds the worker's program.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mafalda.mediasoup.base.events import Event
    from mafalda.mediasoup.channel.messages import MEDIASOUP_VERSION
    from mafalda.mediasoup.endpoints.consumer import Consumer
    from mafalda.mediasoup.endpoints.data_consumer import DataConsumer
    from mafalda.mediasoup.endpoints.data_message import DataMessage
    from mafalda.mediasoup.endpoints.data_producer import DataProducer
    from mafalda.mediasoup.endpoints.producer import Producer
    from mafalda.mediasoup.ortc.scalability import parse_scalability_mode
    from mafalda.mediasoup.ortc.supported_rtp_capabilities import SUPPORTED_RTP_CAPABILITIES
    from mafalda.mediasoup.router.active_speaker_observer import ActiveSpeakerObserver
    from mafalda.mediasoup.router.audio_level_observer import AudioLevelObserver, Volume
    from mafalda.mediasoup.router.router import Router
    from mafalda.mediasoup.router.rtp_observer import RtpObserver
    from mafalda.mediasoup.router.webrtc_server import WebRtcServer
    from mafalda.mediasoup.transports.direct_transport import DirectTransport
    from mafalda.mediasoup.transports.pipe_transport import PipeTransport
    from mafalda.mediasoup.transports.plain_transport import PlainTransport
    from mafalda.mediasoup.transports.sctp_limits import SctpLimits
    from mafalda.mediasoup.transports.transport import Transport
    from mafalda.mediasoup.transports.webrtc_transport import WebRtcTransport
    from mafalda.mediasoup.worker.launch import create_worker
    from mafalda.mediasoup.worker.worker import Worker

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

# The module of each name. It is imported at the first use, because processes that need only the codec start often.
_MODULES = {
    "MEDIASOUP_VERSION": "channel.messages",
    "Consumer": "endpoints.consumer",
    "DataConsumer": "endpoints.data_consumer",
    "DataMessage": "endpoints.data_message",
    "DataProducer": "endpoints.data_producer",
    "Producer": "endpoints.producer",
    "parse_scalability_mode": "ortc.scalability",
    "Event": "base.events",
    "Router": "router.router",
    "WebRtcServer": "router.webrtc_server",
    "Worker": "worker.worker",
    "create_worker": "worker.launch",
    "ActiveSpeakerObserver": "router.active_speaker_observer",
    "AudioLevelObserver": "router.audio_level_observer",
    "Volume": "router.audio_level_observer",
    "RtpObserver": "router.rtp_observer",
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
