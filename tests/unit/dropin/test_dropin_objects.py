"""One name space of objects, and dumps that show what the application made and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from mafalda.dropin.fleet.answers import Refusal
from mafalda.dropin.virtual.handlers import dumps
from mafalda.dropin.virtual.objects import Kind, Node, Objects


def _add(objects: Objects, id: str, kind: Kind, parent: str | None = None) -> Node:
    node = objects.add(Node(id, kind, parent=parent))
    node.is_open = True
    return node


@pytest.fixture
def objects() -> Objects:
    """A router with two transports, a producer, two consumers, an observer."""
    made = Objects()
    _add(made, "r", "router")
    for transport in ("t1", "t2"):
        _add(made, transport, "transport", "r")
    _add(made, "o", "observer", "r")
    _add(made, "p", "producer", "t1")
    _add(made, "c1", "consumer", "t1")
    _add(made, "c2", "consumer", "t2")
    return made


def test_an_id_is_used_once(objects: Objects) -> None:
    with pytest.raises(Refusal, match="already exists"):
        objects.add(Node("p", "dataproducer", parent="t2"))
    with pytest.raises(Refusal, match="not found"):
        objects.require("nobody", "PRODUCER_DUMP")


def test_what_closes_takes_its_children_with_it(objects: Objects) -> None:
    transport = objects.get("t1")
    assert transport is not None
    assert [node.id for node in objects.remove(transport)] == ["t1", "p", "c1"]
    assert objects.get("p") is None
    router = objects.get("r")
    assert router is not None
    assert list(router.children) == ["t2", "o"]


def test_the_worker_s_dump_lists_handlers(objects: Objects) -> None:
    dump = dumps.worker_dump(7, objects)
    assert (dump["pid"], dump["routerIds"]) == (7, ["r"])
    handlers = dump["channelMessageHandlers"]
    assert handlers["channelRequestHandlers"] == ["r", "t1", "t2", "o", "p", "c1", "c2"]
    assert handlers["channelNotificationHandlers"] == ["t1", "t2", "p"]


def test_two_real_routers_are_one(objects: Objects) -> None:
    """The first has the producer and feeds a pipe; the second has it again, from the pipe."""
    first = {
        "transportIds": ["t1", "pipe-out"],
        "rtpObserverIds": [],
        "mapProducerIdConsumerIds": [{"key": "p", "values": ["c1", "pipe-consumer"]}],
        "mapConsumerIdProducerId": [{"key": "c1", "value": "p"}, {"key": "pipe-consumer", "value": "p"}],
        "mapProducerIdObserverIds": [{"key": "p", "values": []}],
        "mapDataProducerIdDataConsumerIds": [],
        "mapDataConsumerIdDataProducerId": [],
    }
    second = {
        "transportIds": ["pipe-in", "t2"],
        "rtpObserverIds": ["o"],
        "mapProducerIdConsumerIds": [{"key": "p", "values": ["c2"]}],
        "mapConsumerIdProducerId": [{"key": "c2", "value": "p"}],
        "mapProducerIdObserverIds": [{"key": "p", "values": ["o"]}],
        "mapDataProducerIdDataConsumerIds": [],
        "mapDataConsumerIdDataProducerId": [],
    }
    router = objects.get("r")
    assert router is not None
    dump = dumps.router_dump(router, objects, [first, second])
    assert dump == {
        "id": "r",
        "transportIds": ["t1", "t2"],
        "rtpObserverIds": ["o"],
        "mapProducerIdConsumerIds": [{"key": "p", "values": ["c1", "c2"]}],
        "mapConsumerIdProducerId": [{"key": "c1", "value": "p"}, {"key": "c2", "value": "p"}],
        "mapProducerIdObserverIds": [{"key": "p", "values": ["o"]}],
        "mapDataProducerIdDataConsumerIds": [],
        "mapDataConsumerIdDataProducerId": [],
    }


def test_a_webrtc_server_s_dump_shows_what_is_still_there(objects: Objects) -> None:
    """A transport that the application has closed may still be on its way out of the real worker."""
    dump: dict[str, Any] = {
        "udpSockets": [{"ip": "127.0.0.1", "port": 1}],
        "tcpServers": [],
        "webRtcTransportIds": ["t1", "closed"],
        "localIceUsernameFragments": [
            {"localIceUsernameFragment": "a", "webRtcTransportId": "closed"},
            {"localIceUsernameFragment": "b", "webRtcTransportId": "t1"},
        ],
    }
    merged = dumps.webrtc_server_dump("s", objects, [dump, {"udpSockets": [{"ip": "127.0.0.1", "port": 2}]}])
    assert [socket["port"] for socket in merged["udpSockets"]] == [1, 2]
    assert merged["webRtcTransportIds"] == ["t1"]
    assert merged["localIceUsernameFragments"] == dump["localIceUsernameFragments"][1:]


def test_usage_is_the_sum_of_all_workers_and_the_drop_in() -> None:
    one = {"ru_utime": 100, "ru_stime": 10, "ru_nvcsw": 5}
    alone, both = dumps.resource_usage([]), dumps.resource_usage([one, one])
    assert both["ru_utime"] >= alone["ru_utime"] + 200
    assert both["ru_nvcsw"] >= alone["ru_nvcsw"] + 10
    assert len(both) == 16
