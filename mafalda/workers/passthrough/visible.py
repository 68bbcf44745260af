"""Which ids of a worker's dumps a peer may see: those of its own objects, and of its application's other peers. Pure.

A router and a WebRtcServer serve many peers, and the worker's dumps of them name the objects of all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

Dump = dict[str, Any]

_LISTS = ("transportIds", "rtpObserverIds")
#: An entry holds the id of a producer or data producer, and those of its consumers or observers.
_MEMBERS = ("mapProducerIdConsumerIds", "mapProducerIdObserverIds", "mapDataProducerIdDataConsumerIds")
#: An entry holds the id of a consumer, and that of its producer, which the consumer's owner has named itself.
_OWNERS = ("mapConsumerIdProducerId", "mapDataConsumerIdDataProducerId")


def visible_router(dump: Dump, own: Collection[str]) -> Dump:
    """A router's dump with the objects of one application only.

    Args:
        dump: With public ids.
        own: The ids of the application's objects.
    """
    shown = dict(dump)
    for key in _LISTS:
        shown[key] = [id for id in dump[key] if id in own]
    for key in _MEMBERS:
        members = [{**entry, "values": [id for id in entry["values"] if id in own]} for entry in dump[key]]
        shown[key] = [entry for entry in members if entry["values"] or entry["key"] in own]
    for key in _OWNERS:
        shown[key] = [entry for entry in dump[key] if entry["key"] in own]
    return shown


def visible_webrtc_server(dump: Dump, own: Collection[str]) -> Dump:
    """A WebRtcServer's dump with the transports of one application only.

    Args:
        dump: As the worker writes it.
        own: The ids of the application's objects.
    """
    return dump | {
        "webRtcTransportIds": [id for id in dump.get("webRtcTransportIds", ()) if id in own],
        "localIceUsernameFragments": [
            entry for entry in dump.get("localIceUsernameFragments", ()) if entry["webRtcTransportId"] in own
        ],
    }
