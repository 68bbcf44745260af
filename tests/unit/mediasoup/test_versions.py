"""Every published version: nothing of a message is lost or invented on its way to our schema and back."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import pytest

from mafalda.dropin.process.startup import log_frame, running_frame
from mafalda.mediasoup.channel import messages, worker_side
from mafalda.mediasoup.codec.decoder import Decoder
from mafalda.mediasoup.codec.encoder import Encoder
from mafalda.mediasoup.codec.schema import Schema
from mafalda.mediasoup.versions import choose, served, translator_for
from mafalda.mediasoup.versions.coverage import HEARD, SAID, undecided
from mafalda.mediasoup.versions.rules import TO_OURS, TO_THEIRS
from mafalda.mediasoup.versions.schemas import schema_of
from mafalda.mediasoup.versions.translator import Translator
from tests.unit.mediasoup.version_samples import ROOT, message

#: What is not given on as it was said, but larger.
RAISED = {"sctpSendBufferSize"}
#: One of each schema that is not ours.
OTHERS = [entry.versions[0] for entry in served() if entry.differences]
OLD = [version for version in OTHERS if version.startswith(("3.13", "3.14", "3.16", "3.18", "3.19"))]


@cache
def codec(version: str) -> tuple[Encoder, Decoder]:
    return Encoder(schema_of(version)), Decoder(schema_of(version))


@cache
def translator(version: str) -> Translator:
    found = translator_for(choose(version))
    assert found is not None
    return found


def said(version: str, method: str, body: tuple[str, dict[str, Any]] | None, handler: str = "h") -> bytes:
    """A request as a library of this version writes it."""
    request: dict[str, Any] = {"id": 7, "method": method, "handlerId": handler}
    if body is not None:
        request["body"] = body
    return codec(version)[0].encode(ROOT, {"data": ("Request", request)})


def heard(version: str, payload: bytes | None) -> tuple[str, dict[str, Any]]:
    """What a library of this version reads."""
    assert payload is not None
    kind, data = codec(version)[1].decode(ROOT, payload)["data"]
    return kind, data


def to_ours(version: str, method: str, body: tuple[str, dict[str, Any]] | None) -> dict[str, Any]:
    """The body that a worker of ours gets."""
    arrived = translator(version).from_library(said(version, method, body))
    assert arrived.to_worker is not None
    request = worker_side.decode(arrived.to_worker)
    assert isinstance(request, worker_side.Request)
    assert (request.id, request.method, request.handler) == (7, method, "h")
    return request.body or {}


@pytest.mark.parametrize("version", OTHERS)
def test_every_difference_is_decided(version: str) -> None:
    theirs, ours = schema_of(version), messages.SCHEMA
    assert undecided(theirs, ours, TO_OURS, SAID) == []
    assert undecided(ours, theirs, TO_THEIRS, HEARD) == []


@pytest.mark.parametrize("version", OTHERS)
def test_every_request_arrives(version: str) -> None:
    theirs = schema_of(version)
    for method, member in messages.REQUEST_BODIES.items():
        if method not in theirs.enums["FBS.Request.Method"].number_of:
            continue
        sent = message(theirs, "Request", {"id": 7, "method": method, "handlerId": "h"}, member)["data"][1]
        body = to_ours(version, method, sent.get("body"))
        theirs_body = sent["body"][1] if member else {}
        _same_where_both_have_it(body, theirs_body)


def _same_where_both_have_it(got: Any, sent: Any) -> None:
    if isinstance(sent, dict) and isinstance(got, dict):
        for key in (sent.keys() & got.keys()) - RAISED:
            _same_where_both_have_it(got[key], sent[key])
    elif isinstance(sent, tuple):
        assert got[0] == sent[0]
        _same_where_both_have_it(got[1], sent[1])
    elif isinstance(sent, list) and len(got) == len(sent):
        for one, other in zip(got, sent, strict=True):
            _same_where_both_have_it(one, other)
    elif not isinstance(sent, list):
        assert got == sent


@pytest.mark.parametrize("version", OTHERS)
def test_every_answer_and_notification_arrives(version: str) -> None:
    ours, theirs, between = messages.SCHEMA, schema_of(version), translator(version)
    encoder, events = codec(messages.MEDIASOUP_VERSION)[0], theirs.enums["FBS.Notification.Event"].number_of
    for kind in ("Response", "Notification"):
        for member in ours.unions[f"FBS.{kind}.Body"].members:
            event = next((it for it, body in worker_side.NOTIFICATION_BODIES.items() if body == member), "")
            if kind == "Notification" and event not in events:
                continue
            head = {"id": 7, "accepted": True} if kind == "Response" else {"handlerId": "h", "event": event}
            sent = message(ours, kind, head, member)
            got_kind, got = heard(version, between.to_library(encoder.encode(ROOT, sent)))
            assert got_kind == kind
            if member in theirs.unions[f"FBS.{kind}.Body"].members:
                assert got["body"][0] == member
                _same_where_both_have_it(got["body"][1], sent["data"][1]["body"][1])
            else:
                assert (kind, "body" in got) == ("Response", False)


@pytest.mark.parametrize("version", [version for entry in served() for version in entry.versions])
def test_the_first_words_are_in_the_library_s_schema(version: str) -> None:
    frame = running_frame(4711, choose(version).running)
    assert struct.unpack_from("<I", frame) == (len(frame) - 4,)
    assert heard(version, frame[4:]) == ("Notification", {"handlerId": "4711", "event": "WORKER_RUNNING"})
    assert heard(version, log_frame("Ewhy")[4:]) == ("Log", {"data": "Ewhy"})


def test_our_own_version_is_not_translated() -> None:
    assert translator_for(choose(messages.MEDIASOUP_VERSION)) is None
    assert translator_for(choose("3.27.0")) is None
    assert (
        choose(messages.MEDIASOUP_VERSION).running
        == messages.SCHEMA.enums["FBS.Notification.Event"].number_of["WORKER_RUNNING"]
    )


# --- what the rules say -------------------------------------------------------------------------------------


def transport(version: str, **base: Any) -> tuple[str, dict[str, Any]]:
    info = {"protocol": "udp", "ip": "127.0.0.1", "flags": {}, "portRange": {}}
    info |= {"announcedIp": "192.0.2.1", "announcedAddress": "192.0.2.1"}  # whichever the version knows
    options = {"base": base, "listen": ("ListenIndividual", {"listenInfos": [info]})}
    return "Router_CreateWebRtcTransportRequest", {"transportId": "t", "options": options}


@pytest.mark.parametrize("version", OTHERS)
def test_listen_infos_are_complete(version: str) -> None:
    body = to_ours(version, "ROUTER_CREATE_WEBRTCTRANSPORT", transport(version))
    info = body["options"]["listen"][1]["listenInfos"][0]
    assert (info["ip"], info["announcedAddress"]) == ("127.0.0.1", "192.0.2.1")
    assert info["portRange"] == {"min": 0, "max": 0}
    assert info["flags"] == {"ipv6Only": False, "udpReusePort": False}


@pytest.mark.parametrize(("version", "asked_s"), [("3.13.0", 0), ("3.13.18", 0), ("3.13.23", 30), ("3.26.0", 30)])
def test_consent_is_asked_for_as_the_version_s_worker_did(version: str, asked_s: int) -> None:
    body = to_ours(version, "ROUTER_CREATE_WEBRTCTRANSPORT", transport(version))
    assert body["options"]["iceConsentTimeout"] == asked_s


@pytest.mark.parametrize("version", OLD)
def test_one_message_size_is_for_both_directions(version: str) -> None:
    asked = {"enableSctp": True, "maxSctpMessageSize": 300_000, "sctpSendBufferSize": 262_144}
    body = to_ours(version, "ROUTER_CREATE_WEBRTCTRANSPORT", transport(version, **asked))
    base = body["options"]["base"]
    assert (base["maxSendMessageSize"], base["maxReceiveMessageSize"]) == (300_000, 300_000)
    assert base["sctpPerStreamSendQueueLimit"] >= 300_000
    direct = {"transportId": "d", "options": {"base": {"direct": True, "maxMessageSize": 1234}}}
    body = to_ours(version, "ROUTER_CREATE_DIRECTTRANSPORT", ("Router_CreateDirectTransportRequest", direct))
    assert body["options"]["base"]["maxReceiveMessageSize"] == 1234


def dump_of_transport(sctp: dict[str, Any] | None) -> dict[str, Any]:
    base = {
        "id": "t", "producerIds": [], "consumerIds": [], "mapSsrcConsumerId": [], "mapRtxSsrcConsumerId": [],
        "dataProducerIds": [], "dataConsumerIds": [], "recvRtpHeaderExtensions": {}, "traceEventTypes": [],
        "rtpListener": {"ssrcTable": [], "midTable": [], "ridTable": []}, "maxSendMessageSize": 300_000,
        "sctpParameters": sctp,
    }  # fmt: skip
    candidate = {"foundation": "udp", "address": "192.0.2.1", "port": 9, "protocol": "udp", "type": "host"}
    return {
        "base": base,
        "iceParameters": {"usernameFragment": "u", "password": "p"},
        "iceCandidates": [candidate],
        "iceSelectedTuple": {"localAddress": "192.0.2.1", "localPort": 9, "protocol": "udp"},
        "dtlsParameters": {"fingerprints": []},
    }


@pytest.mark.parametrize("version", OLD)
def test_sctp_numbers_of_streams_come_back_as_they_were_asked_for(version: str) -> None:
    between = translator.__wrapped__(version)
    asked = {"enableSctp": True, "numSctpStreams": {"os": 8, "mis": 9}, "sctpSendBufferSize": 5000}
    between.from_library(said(version, "ROUTER_CREATE_WEBRTCTRANSPORT", transport(version, **asked), "r"))
    sctp = {"port": 5000, "maxSendMessageSize": 300_000, "maxReceiveMessageSize": 300_000, "sendBufferSize": 2_000_000}
    answer = worker_side.encode_accepted(7, "TRANSPORT_DUMP", dump_of_transport(sctp), "WebRtcTransport")
    base = heard(version, between.to_library(answer))[1]["body"][1]["base"]
    told = base["sctpParameters"]
    assert (told["port"], told["os"], told["mis"], told["maxMessageSize"]) == (5000, 8, 9, 300_000)
    assert (told["sendBufferSize"], base["maxMessageSize"]) == (5000, 300_000)
    # Once the router is gone, nothing of its transports is remembered.
    between.from_library(said(version, "WORKER_CLOSE_ROUTER", ("Worker_CloseRouterRequest", {"routerId": "r"}), ""))
    told = heard(version, between.to_library(answer))[1]["body"][1]["base"]["sctpParameters"]
    assert (told["os"], told["mis"]) == (1024, 1024)


@pytest.mark.parametrize(
    ("version", "ip", "local"), [("3.13.0", "ip", "localIp"), ("3.26.0", "address", "localAddress")]
)
def test_addresses_have_the_version_s_names(version: str, ip: str, local: str) -> None:
    answer = worker_side.encode_accepted(7, "TRANSPORT_DUMP", dump_of_transport(None), "WebRtcTransport")
    body = heard(version, translator(version).to_library(answer))[1]["body"][1]
    assert body["iceCandidates"][0][ip] == "192.0.2.1"
    assert body["iceSelectedTuple"][local] == "192.0.2.1"


def header_extension(uri: str, id_: int) -> dict[str, Any]:
    return {"uri": uri, "id": id_, "encrypt": False, "parameters": {}}


LEVEL, MARKING = "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "urn:ietf:params:rtp-hdrext:framemarking"


@pytest.mark.parametrize("version", ["3.13.0", "3.16.0"])
def test_header_extensions_that_workers_no_longer_have_are_left_out(version: str) -> None:
    parameters = {
        "codecs": [], "encodings": [], "rtcp": {},
        "headerExtensions": [header_extension(LEVEL, 1), header_extension(MARKING, 2)],
    }  # fmt: skip
    request = {"producerId": "p", "kind": "audio", "rtpParameters": parameters}
    request["rtpMapping"] = {"codecs": [], "encodings": []}
    body = to_ours(version, "TRANSPORT_PRODUCE", ("Transport_ProduceRequest", request))
    assert [it["uri"] for it in body["rtpParameters"]["headerExtensions"]] == [LEVEL]


@pytest.mark.parametrize(("version", "error"), [("3.19.22", "Error"), ("3.21.0", "NotFoundError")])
def test_errors_are_those_of_the_version(version: str, error: str) -> None:
    payload = translator(version).to_library(worker_side.encode_refused(3, "NotFoundError", "Router not found"))
    kind, data = heard(version, payload)
    assert (kind, data["id"], data["accepted"], data["error"]) == ("Response", 3, False, error)
    assert data["reason"] == "Router not found"


def test_bitrates_beyond_an_old_field_are_the_largest_that_it_holds() -> None:
    base = {"transportId": "t", "recvBitrate": 5_000_000_000, "sendBitrate": 7}
    answer = worker_side.encode_accepted(1, "TRANSPORT_GET_STATS", {"base": base}, "DirectTransport")
    stats = heard("3.26.0", translator("3.26.0").to_library(answer))[1]["body"][1]["base"]
    assert (stats["recvBitrate"], stats["sendBitrate"]) == (2**32 - 1, 7)


def test_closing_the_worker_was_a_request_once() -> None:
    arrived = translator("3.19.11").from_library(said("3.19.11", "WORKER_CLOSE", None, ""))
    assert arrived.to_worker is not None
    assert worker_side.decode(arrived.to_worker) == worker_side.Notification("WORKER_CLOSE", "", None)
    assert heard("3.19.11", arrived.to_library) == ("Response", {"id": 7, "accepted": True})


@pytest.mark.parametrize("version", [messages.MEDIASOUP_VERSION, "3.26.0", "3.13.0"])
def test_a_body_that_may_be_empty_is_there_all_the_same(version: str) -> None:
    payload: bytes | None = worker_side.encode_accepted(1, "CONSUMER_SET_PREFERRED_LAYERS", None)
    if version != messages.MEDIASOUP_VERSION:
        payload = translator(version).to_library(payload or b"")
    assert heard(version, payload)[1]["body"] == ("Consumer_SetPreferredLayersResponse", {})


def test_a_notification_that_the_version_does_not_have_is_left_out() -> None:
    told = worker_side.encode_notification("TRANSPORT_SCTP_NEGOTIATED_CAPABILITIES", "t", {})
    assert translator("3.19.22").to_library(told) is None
    assert translator("3.21.0").to_library(told) is not None


def newer() -> Translator:
    """Of a schema that has more than ours."""
    from mafalda.mediasoup.fbs import schema as generated

    enums = {**generated.ENUMS, "FBS.Request.Method": {**generated.ENUMS["FBS.Request.Method"], "ROUTER_DANCE": 99}}
    return Translator(Schema(generated.TABLES, enums, generated.UNIONS), knows_not_found=True)


def test_a_method_that_our_workers_do_not_have_is_refused_in_the_worker_s_words() -> None:
    between = newer()
    request = {"id": 5, "method": "ROUTER_DANCE", "handlerId": "r"}
    arrived = between.from_library(between._write_theirs.encode(ROOT, {"data": ("Request", request)}))
    assert arrived.to_worker is None
    assert arrived.to_library is not None
    answer = messages.decode(arrived.to_library)
    assert answer == messages.Response(5, False, {}, "Error", "unknown method 'ROUTER_DANCE'")
