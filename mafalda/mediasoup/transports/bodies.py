"""The bodies of the four requests with which transports produce and consume. Ids in them are public ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mafalda.media.rtp import ConsumerLayers, MediaKind, RtpMapping, RtpParameters, SctpStreamParameters
from mafalda.mediasoup.endpoints.data_endpoint import DataType
from mafalda.mediasoup.endpoints.data_producer import DataProducer
from mafalda.mediasoup.endpoints.producer import Producer
from mafalda.mediasoup.errors import InvalidParameters

Body = dict[str, Any]


def mapped_ssrcs_of(consumable: RtpParameters) -> tuple[int, ...]:
    """The router's SSRCs of a producer's encodings."""
    return tuple(encoding.ssrc for encoding in consumable.encodings if encoding.ssrc is not None)


def with_mapped_ssrcs(mapping: RtpMapping, ssrcs: Sequence[int]) -> RtpMapping:
    """The mapping with given SSRCs instead of random ones.

    Raises:
        InvalidParameters: They are not as many different SSRCs as there are encodings.
    """
    if not isinstance(ssrcs, list | tuple) or len(ssrcs) != len(mapping.encodings):
        raise InvalidParameters("mapped_ssrcs must be one for each encoding", encodings=len(mapping.encodings))
    if any(type(ssrc) is not int or not 0 < ssrc < 2**32 for ssrc in ssrcs) or len(set(ssrcs)) != len(ssrcs):
        raise InvalidParameters("mapped_ssrcs must be different SSRCs")
    encodings = tuple(
        encoding.model_copy(update={"mapped_ssrc": ssrc})
        for encoding, ssrc in zip(mapping.encodings, ssrcs, strict=True)
    )
    return mapping.model_copy(update={"encodings": encodings})


def produce_body(
    producer_id: str,
    kind: MediaKind,
    parameters: RtpParameters,
    mapping: RtpMapping,
    *,
    paused: bool,
    key_frame_request_delay: int | None,
    packet_ids: bool,
) -> Body:
    """``TRANSPORT_PRODUCE``: the endpoint's parameters, and how the router maps them."""
    return {
        "producerId": producer_id,
        "kind": kind,
        "rtpParameters": parameters.model_dump(by_alias=True, exclude_none=True),
        "rtpMapping": mapping.model_dump(by_alias=True, exclude_none=True),
        "paused": paused,
        "keyFrameRequestDelay": key_frame_request_delay,
        "enableMediasoupPacketIdHeaderExtension": packet_ids,
    }


def consume_body(
    consumer_id: str,
    producer: Producer,
    parameters: RtpParameters,
    *,
    paused: bool,
    layers: ConsumerLayers | None,
    ignore_dtx: bool,
    pipe: bool,
) -> Body:
    """``TRANSPORT_CONSUME``: the endpoint's parameters, and the producer's encodings."""
    encodings = producer.consumable_rtp_parameters.encodings
    return {
        "consumerId": consumer_id,
        "producerId": producer.id,
        "kind": producer.kind,
        "rtpParameters": parameters.model_dump(by_alias=True, exclude_none=True),
        "type": "pipe" if pipe else producer.type,
        "consumableRtpEncodings": [item.model_dump(by_alias=True, exclude_none=True) for item in encodings],
        "paused": paused,
        "preferredLayers": layers.to_json_dict() if layers is not None else None,
        "ignoreDtx": ignore_dtx,
    }


def produce_data_body(
    data_producer_id: str,
    type: DataType,
    stream: SctpStreamParameters | None,
    *,
    label: str,
    protocol: str,
    paused: bool,
) -> Body:
    """``TRANSPORT_PRODUCE_DATA``."""
    return {
        "dataProducerId": data_producer_id,
        "type": type,
        "sctpStreamParameters": stream.to_json_dict() if stream is not None else None,
        "label": label,
        "protocol": protocol,
        "paused": paused,
    }


def consume_data_body(
    data_consumer_id: str,
    data_producer: DataProducer,
    type: DataType,
    stream: Body | None,
    *,
    paused: bool,
    subchannels: list[int],
) -> Body:
    """``TRANSPORT_CONSUME_DATA``; label and protocol are the data producer's."""
    return {
        "dataConsumerId": data_consumer_id,
        "dataProducerId": data_producer.id,
        "type": type,
        "sctpStreamParameters": stream,
        "label": data_producer.label,
        "protocol": data_producer.protocol,
        "paused": paused,
        "subchannels": subchannels,
    }


def stream_parameters(
    data_producer: DataProducer,
    stream_id: int,
    ordered: bool | None,
    max_packet_life_time: int | None,
    max_retransmits: int | None,
) -> Body:
    """A data consumer's stream parameters: the data producer's, with what the data consumer changes."""
    source = data_producer.sctp_stream_parameters
    stream: Body = source.to_json_dict() if source is not None else {"ordered": True}
    stream["streamId"] = stream_id
    if ordered is not None:
        stream["ordered"] = ordered
    if ordered:
        stream.pop("maxPacketLifeTime", None)
        stream.pop("maxRetransmits", None)
        return stream
    for key, value in (("maxPacketLifeTime", max_packet_life_time), ("maxRetransmits", max_retransmits)):
        if value is not None:
            stream["ordered"] = False
            stream[key] = value
    return stream
