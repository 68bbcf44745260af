"""Converts answers where mediasoup's JSON differs from the worker's tables: flattened base tables, additional names."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
_SCTP_STREAMS = 65535  # mediasoup always answers this


def tuple_shape(tuple_: JsonObject) -> JsonObject:
    """A transport tuple, with the deprecated ``localIp``, and without remote fields while they are not known."""
    shape = {"localIp": tuple_["localAddress"], **tuple_}
    if not shape.get("remoteIp"):
        shape.pop("remoteIp", None)
        shape.pop("remotePort", None)
    return shape


def sctp_parameters(parameters: JsonObject) -> JsonObject:
    """SCTP parameters, with the additional names that mediasoup used before 3.20."""
    return {
        **parameters,
        "OS": _SCTP_STREAMS,
        "MIS": _SCTP_STREAMS,
        "maxMessageSize": parameters["maxReceiveMessageSize"],
    }


def transport_dump(body: JsonObject) -> JsonObject:
    """A transport's dump, with the fields of its base table in the same object."""
    dump = _flatten(body)
    if "sctpParameters" in dump:
        dump["sctpParameters"] = sctp_parameters(dump["sctpParameters"])
    if "iceCandidates" in dump:
        dump["iceCandidates"] = [{**item, "ip": item["address"]} for item in dump["iceCandidates"]]
    return _with_tuples(dump)


def transport_stats(body: JsonObject, type_: str) -> JsonObject:
    """A transport's statistics, with the fields of its base table in the same object, and ``type``."""
    return {"type": type_, **_with_tuples(_flatten(body))}


def consumer_dump(body: JsonObject) -> JsonObject:
    """A consumer's dump; all but pipe consumers have exactly one stream."""
    data = body["data"]
    dump: JsonObject = {**data["base"], **{key: value for key, value in data.items() if key != "base"}}
    dump["rtpStreams"] = [_stream_dump(item) for item in dump["rtpStreams"]]
    if dump["type"] in ("simple", "pipe"):
        dump = {key: value for key, value in dump.items() if not key.endswith(("SpatialLayer", "TemporalLayer"))}
    if dump["type"] != "pipe":
        streams = dump.pop("rtpStreams")
        if streams:
            dump["rtpStream"] = streams[0]
    return dump


def producer_dump(body: JsonObject) -> JsonObject:
    """A producer's dump."""
    return {**body, "rtpStreams": [_stream_dump(item) for item in body["rtpStreams"]]}


def stream_stats(body: JsonObject) -> list[JsonObject]:
    """Statistics of RTP streams, each with the fields of its base tables in one object."""
    return [_one_stream(item["data"]) for item in body["stats"]]


def trace(body: JsonObject) -> JsonObject:
    """A trace event, with its ``info`` as an object, which may be empty."""
    info = body.get("info")
    return {**body, "info": info[1] if info else {}}


def _one_stream(data: tuple[str, JsonObject]) -> JsonObject:
    member, stats = data
    base: JsonObject = stats["base"]["data"][1] if "base" in stats else {}
    flat = {**base, **{key: value for key, value in stats.items() if key != "base"}}
    flat["type"] = "inbound-rtp" if member == "RecvStats" else "outbound-rtp"
    if "bitrateByLayer" in flat:
        flat["bitrateByLayer"] = {item["layer"]: item["bitrate"] for item in flat["bitrateByLayer"]}
    for key in ("rid", "rtxPacketsDiscarded"):
        if not flat.get(key):
            flat.pop(key, None)
    return flat


def _stream_dump(stream: JsonObject) -> JsonObject:
    shape = {**stream, "params": _without_empty(stream["params"], "rid")}
    if "rtxStream" in shape:
        shape["rtxStream"] = {"params": _without_empty(shape["rtxStream"]["params"], "rrid")}
    return shape


def _without_empty(value: JsonObject, key: str) -> JsonObject:
    return {name: item for name, item in value.items() if name != key or item}


def _flatten(body: JsonObject) -> JsonObject:
    return {**body["base"], **{key: value for key, value in body.items() if key != "base"}}


def _with_tuples(value: JsonObject) -> JsonObject:
    for key in ("tuple", "rtcpTuple", "iceSelectedTuple"):
        if key in value:
            value[key] = tuple_shape(value[key])
    return value
