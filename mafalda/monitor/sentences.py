"""Describe a log entry in one line of text."""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages.commands import OpenRelay, OpenRelays, PlacePeer
from mafalda.contract.messages.events import StatisticsReported
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.results import Rejected
from mafalda.monitor.records import Record

_HIDDEN = {"explanation", "appData", "rtpCapabilities", "rtpParameters", "routerRtpCapabilities", "dtlsParameters"}
_HIDDEN |= {"iceCandidates", "sctpParameters", "sctpStreamParameters", "load", "join"}


def sentence(entry: Record) -> str:
    """The description of an entry."""
    if entry.message is None:
        return f"UNREADABLE: {entry.error}"
    data = entry.message.data
    match data:
        case PlacePeer():
            place = Place(server=data.server, worker=data.worker)
            return f"place {data.peer} on {_place(place)} (generation {data.generation}, {data.cause})"
        case OpenRelay():
            return f"relay {data.producer} from {_place(data.source)} to {_place(data.target)}"
        case OpenRelays():
            relays = ", ".join(f"{relay.producer} from {_place(relay.source)}" for relay in data.relays)
            return f"relay {relays} to {_place(data.target)}"
        case Rejected():
            return f"rejected {data.intent}: {data.error.message} [{data.error.code}]"
        case StatisticsReported():
            return f"{data.action} {', '.join(f'{way.way} {way.quality}' for way in data.ways)} ({data.cause})"
        case _:
            return f"{data.action} {_fields(data.to_json_dict())}".strip()


def _place(place: Place) -> str:
    return place.worker if place.worker.startswith(f"{place.server}-") else f"{place.server}/{place.worker}"


def _fields(data: dict[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in data.items() if key not in _HIDDEN)


def _short(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"server", "worker"}:
        return f"{value['server']}/{value['worker']}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        return "{…}"
    return str(value)
