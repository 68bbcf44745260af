"""ORTC: the negotiation of RTP parameters between endpoints and routers, equal to mediasoup 3.27.1's."""

from mafalda.mediasoup.ortc.consumer_parameters import (
    can_consume,
    get_consumer_rtp_parameters,
    get_pipe_consumer_rtp_parameters,
    why_cannot_consume,
)
from mafalda.mediasoup.ortc.producer_mapping import (
    answer_producer_rtp_parameters,
    capabilities_of_mapping,
    get_consumable_rtp_parameters,
    get_producer_rtp_parameters_mapping,
)
from mafalda.mediasoup.ortc.router_capabilities import generate_router_rtp_capabilities
from mafalda.mediasoup.ortc.ssrc import SsrcSource, random_ssrc
from mafalda.mediasoup.ortc.validate import (
    parse,
    validate_codec_capability,
    validate_rtp_capabilities,
    validate_rtp_parameters,
    validate_sctp_stream_parameters,
)

__all__ = [
    "SsrcSource",
    "answer_producer_rtp_parameters",
    "can_consume",
    "capabilities_of_mapping",
    "generate_router_rtp_capabilities",
    "get_consumable_rtp_parameters",
    "get_consumer_rtp_parameters",
    "get_pipe_consumer_rtp_parameters",
    "get_producer_rtp_parameters_mapping",
    "parse",
    "random_ssrc",
    "validate_codec_capability",
    "validate_rtp_capabilities",
    "validate_rtp_parameters",
    "validate_sctp_stream_parameters",
    "why_cannot_consume",
]
