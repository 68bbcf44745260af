"""A dump shows a peer the objects of its own application, and of others not even their ids."""

from __future__ import annotations

from mafalda.workers.passthrough.visible import visible_router, visible_webrtc_server

ROUTER = {
    "id": "lobby",
    "transportIds": ["t-mine", "t-other"],
    "rtpObserverIds": ["o-other", "o-mine"],
    "mapProducerIdConsumerIds": [
        {"key": "p-mine", "values": ["c-other"]},
        {"key": "p-other", "values": ["c-mine", "c-other"]},
        {"key": "p-third", "values": []},
    ],
    "mapConsumerIdProducerId": [
        {"key": "c-mine", "value": "p-other"},
        {"key": "c-other", "value": "p-mine"},
    ],
    "mapProducerIdObserverIds": [{"key": "p-other", "values": ["o-other"]}],
    "mapDataProducerIdDataConsumerIds": [{"key": "d-other", "values": ["e-other"]}],
    "mapDataConsumerIdDataProducerId": [{"key": "e-other", "value": "d-other"}],
}
OWN = {"t-mine", "o-mine", "p-mine", "c-mine"}


def test_of_a_router_only_own_objects_are_seen() -> None:
    assert visible_router(ROUTER, OWN) == {
        "id": "lobby",
        "transportIds": ["t-mine"],
        "rtpObserverIds": ["o-mine"],
        "mapProducerIdConsumerIds": [{"key": "p-mine", "values": []}, {"key": "p-other", "values": ["c-mine"]}],
        "mapConsumerIdProducerId": [{"key": "c-mine", "value": "p-other"}],
        "mapProducerIdObserverIds": [],
        "mapDataProducerIdDataConsumerIds": [],
        "mapDataConsumerIdDataProducerId": [],
    }


def test_of_a_webrtc_server_only_own_transports_are_seen() -> None:
    dump = {
        "id": "w",
        "udpSockets": [{"ip": "127.0.0.1", "port": 44444}],
        "webRtcTransportIds": ["t-mine", "t-other"],
        "localIceUsernameFragments": [
            {"localIceUsernameFragment": "mine", "webRtcTransportId": "t-mine"},
            {"localIceUsernameFragment": "other", "webRtcTransportId": "t-other"},
        ],
    }
    assert visible_webrtc_server(dump, OWN) == {
        "id": "w",
        "udpSockets": [{"ip": "127.0.0.1", "port": 44444}],
        "webRtcTransportIds": ["t-mine"],
        "localIceUsernameFragments": [{"localIceUsernameFragment": "mine", "webRtcTransportId": "t-mine"}],
    }
