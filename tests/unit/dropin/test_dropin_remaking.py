"""Which transports can be made again, what of them, and who belongs together."""

from __future__ import annotations

from typing import Any

import pytest

from mafalda.contract.messages.intents import CreateTransport, Intent, PauseProducer, RequestChannel
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.virtual.peer_groups import WITHIN_S, PeerGroups
from mafalda.dropin.virtual.remaking import can_be_remade, kept_setting, on_former_ports
from mafalda.mediasoup.codec.channel_json import from_json

LISTEN = {"protocol": "udp", "ip": "10.0.0.5", "port": 0, "portRange": {"min": 40000, "max": 49999}}


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("DirectTransport", {"base": {"direct": True}}, True),
        ("PlainTransport", {"base": {}}, True),
        ("PlainTransport", {"base": {}, "enableSrtp": True}, False),
        ("PlainTransport", {"base": {"enableSctp": True}}, False),
        ("PipeTransport", {"base": {"enableSctp": True}}, True),
        ("PipeTransport", {"base": {}, "enableSrtp": True}, False),
        ("WebRtcTransport", {"base": {}}, False),
    ],
)
def test_what_can_be_made_again(kind: str, options: dict[str, Any], expected: bool) -> None:
    assert can_be_remade(kind, options) == expected


def _plain(options: dict[str, Any]) -> CreateTransport:
    body = {"transportId": "t", "options": options}
    return CreateTransport(transport="t", channel=make_call("ROUTER_CREATE_PLAINTRANSPORT", "r", body))


def _options(intent: CreateTransport | None) -> dict[str, Any]:
    assert intent is not None
    assert intent.channel is not None
    options: dict[str, Any] = from_json(intent.channel.body)["options"]
    return options


def test_a_transport_asks_for_the_ports_that_it_had() -> None:
    made = {"tuple": {"localPort": 41000}, "rtcpTuple": {"localPort": 41001}}
    options = _options(on_former_ports(_plain({"listenInfo": LISTEN, "rtcpMux": False}), made))
    any_range = {"min": 0, "max": 0}
    assert options["listenInfo"] == {**LISTEN, "port": 41000, "portRange": any_range}
    assert options["rtcpListenInfo"] == {**LISTEN, "port": 41001, "portRange": any_range}
    muxed = _options(on_former_ports(_plain({"listenInfo": LISTEN, "rtcpMux": True}), {"tuple": {"localPort": 41000}}))
    assert "rtcpListenInfo" not in muxed
    assert on_former_ports(_plain({"base": {"direct": True}}), {"id": "t"}) is None


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("PRODUCER_PAUSE", {}, ("paused", "pause-producer")),
        ("CONSUMER_SET_PRIORITY", {}, ("CONSUMER_SET_PRIORITY", "channel")),
        ("CONSUMER_REQUEST_KEY_FRAME", {}, None),
        ("TRANSPORT_RESTART_ICE", {}, None),
    ],
)
def test_what_lasts_of_a_request(method: str, answer: dict[str, Any], expected: tuple[str, str] | None) -> None:
    intent: Intent = RequestChannel(call=make_call(method, "x", None))
    if method == "PRODUCER_PAUSE":
        intent = PauseProducer(producer="x")
    kept = kept_setting(method, "x", intent, answer)
    assert (None if kept is None else (kept[0], kept[1].action)) == expected


def test_subchannels_are_set_to_what_they_had_become() -> None:
    intent = RequestChannel(call=make_call("DATACONSUMER_ADD_SUBCHANNEL", "x", {"subchannel": 3}))
    kept = kept_setting("DATACONSUMER_ADD_SUBCHANNEL", "x", intent, {"subchannels": [1, 3]})
    assert kept is not None
    slot, again = kept
    assert slot == "subchannels"
    assert isinstance(again, RequestChannel)
    assert (again.call.method, again.call.body) == ("DATACONSUMER_SET_SUBCHANNELS", {"subchannels": [1, 3]})


def test_a_participant_s_transports_belong_together() -> None:
    groups = PeerGroups(2)
    assert [groups.add("r", it, 0.0) for it in ("a", "b", "c", "d")] == [None, "a", None, "c"]
    assert groups.add("r", "e", 0.0) is None
    assert groups.add("other", "x", 0.0) is None, "another router's"
    assert groups.add("r", "f", WITHIN_S + 1) is None, "too late to be the same participant's"
    groups.forget("r", "f")
    assert groups.add("r", "g", WITHIN_S + 1) is None, "nothing is placed beside what is closed"


def test_none_belong_together_if_each_participant_has_one() -> None:
    groups = PeerGroups(1)
    assert [groups.add("r", it, 0.0) for it in ("a", "b")] == [None, None]
