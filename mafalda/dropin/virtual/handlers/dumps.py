"""Dumps of virtual objects, merged from the dumps of the real ones that stand for them.

A real router also has the ends of relays, which the application did not make; they are left out.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from typing import Any

from mafalda.dropin.virtual.objects import NOTIFIABLE, Node, Objects

Dump = dict[str, Any]
_COUNTERS = (
    "maxrss",
    "ixrss",
    "idrss",
    "isrss",
    "minflt",
    "majflt",
    "nswap",
    "inblock",
    "oublock",
    "msgsnd",
    "msgrcv",
    "nsignals",
    "nvcsw",
    "nivcsw",
)


def worker_dump(pid: int, objects: Objects) -> Dump:
    """The virtual worker: everything that the application has made."""
    nodes = [node for node in objects if node.is_open]
    return {
        "pid": pid,
        "webRtcServerIds": [node.id for node in nodes if node.kind == "webrtcserver"],
        "routerIds": [node.id for node in nodes if node.kind == "router"],
        "channelMessageHandlers": {
            "channelRequestHandlers": [node.id for node in nodes],
            "channelNotificationHandlers": [node.id for node in nodes if node.kind in NOTIFIABLE],
        },
    }


def router_dump(router: Node, objects: Objects, dumps: Iterable[Dump]) -> Dump:
    """One router of all the real ones that serve it.

    Args:
        router: The virtual one.
        objects: What the application has made; nothing else is shown.
        dumps: Of the real ones, with the application's ids.
    """
    dumps = list(dumps)
    listed = {id for dump in dumps for key in ("transportIds", "rtpObserverIds") for id in dump[key]}
    mine = [node for node in router.children.values() if node.is_open and node.id in listed]
    return {
        "id": router.id,
        "transportIds": [node.id for node in mine if node.kind == "transport"],
        "rtpObserverIds": [node.id for node in mine if node.kind == "observer"],
        "mapProducerIdConsumerIds": _lists(dumps, "mapProducerIdConsumerIds", objects, "producer", "consumer"),
        "mapConsumerIdProducerId": _pairs(dumps, "mapConsumerIdProducerId", objects, "consumer", "producer"),
        "mapProducerIdObserverIds": [
            entry
            for entry in _lists(dumps, "mapProducerIdObserverIds", objects, "producer", "observer")
            if entry["values"]
        ],
        "mapDataProducerIdDataConsumerIds": _lists(
            dumps, "mapDataProducerIdDataConsumerIds", objects, "dataproducer", "dataconsumer"
        ),
        "mapDataConsumerIdDataProducerId": _pairs(
            dumps, "mapDataConsumerIdDataProducerId", objects, "dataconsumer", "dataproducer"
        ),
    }


def webrtc_server_dump(id: str, objects: Objects, dumps: Iterable[Dump]) -> Dump:
    """One WebRtcServer of all the real ones that are opened for it."""
    merged: Dump = {key: [] for key in ("udpSockets", "tcpServers", "webRtcTransportIds", "localIceUsernameFragments")}
    merged["id"] = id
    for dump in dumps:
        for key, value in dump.items():
            if isinstance(value, list):
                merged.setdefault(key, []).extend(value)
    merged["webRtcTransportIds"] = [it for it in merged["webRtcTransportIds"] if _is_open(objects, it, "transport")]
    merged["localIceUsernameFragments"] = [
        it for it in merged["localIceUsernameFragments"] if _is_open(objects, it["webRtcTransportId"], "transport")
    ]
    return merged


def resource_usage(usages: Iterable[Dump]) -> Dump:
    """What the real workers use, and the drop-in itself."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total: Dump = {"ru_utime": int(own.ru_utime * 1000), "ru_stime": int(own.ru_stime * 1000)}
    total |= {f"ru_{name}": int(getattr(own, f"ru_{name}")) for name in _COUNTERS}
    for usage in usages:
        for key in total:
            total[key] += int(usage.get(key, 0))
    return total


def _is_open(objects: Objects, id: str, kind: str) -> bool:
    node = objects.get(id)
    return node is not None and node.kind == kind and node.is_open


def _lists(dumps: list[Dump], key: str, objects: Objects, of: str, member: str) -> list[Dump]:
    found: dict[str, list[str]] = {}
    for dump in dumps:
        for entry in dump[key]:
            if _is_open(objects, entry["key"], of):
                values = found.setdefault(entry["key"], [])
                values += [it for it in entry["values"] if it not in values and _is_open(objects, it, member)]
    return [{"key": id, "values": values} for id, values in found.items()]


def _pairs(dumps: list[Dump], key: str, objects: Objects, of: str, value: str) -> list[Mapping[str, str]]:
    return [
        entry
        for dump in dumps
        for entry in dump[key]
        if _is_open(objects, entry["key"], of) and _is_open(objects, entry["value"], value)
    ]
