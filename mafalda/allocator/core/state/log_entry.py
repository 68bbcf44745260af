"""Read a log entry as far as an allocator needs it, so that a new allocator catches up quickly. Pure.

Commands and events change the state and are decoded in full. Of a result only the few fields that the projection uses
are read, without validation: agents are the only ones who may publish results, and there are two of them for each
consumer. An intent is kept undecoded: most intents are answered by an agent before an allocator has to decode them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from mafalda.contract.ids import is_id
from mafalda.contract.messages.batches import MAX_BATCHED
from mafalda.contract.messages.commands import Explanation, PlacePeer
from mafalda.contract.messages.envelope import Message, peek_id
from mafalda.contract.messages.intents import IntentBatch
from mafalda.contract.messages.load import ServerLoad
from mafalda.contract.messages.payload import Payload
from mafalda.contract.messages.results import (
    ChannelAnswer,
    ConsumeDataResult,
    ConsumeResult,
    Done,
    Rejected,
    ResultBatch,
    SubscribeResult,
    TransportResult,
)
from mafalda.contract.reading import check_message, read_message
from mafalda.contract.subjects import Address, parse
from mafalda.errors import BadInput, MafaldaError, MalformedMessage

_REJECTED = Rejected.type_name()
_SUBSCRIBED = SubscribeResult.type_name()
_BATCH = ResultBatch.type_name()

#: Of each kind of result the fields that the projection uses, with their types; on the wire in camel case.
_USED: dict[str, tuple[type[Payload], dict[str, type]]] = {
    kind.type_name(): (kind, used)
    for kind, used in (
        (TransportResult, {"transport": str, "generation": int}),
        (ConsumeResult, {"consumer": str, "producer": str, "transport": str, "paused": bool, "generation": int}),
        (ConsumeDataResult, {"data_consumer": str, "data_producer": str, "transport": str, "generation": int}),
        (Done, {"intent": str, "generation": int}),
        (ChannelAnswer, {"intent": str, "accepted": bool, "generation": int}),
    )
}

#: What allocators do not read, by action: the explanation is half of a command, and for people.
_UNREAD: dict[str, Mapping[str, Any]] = {
    PlacePeer.action: MappingProxyType({"explanation": Explanation(policy="", summary="")}),
}
_ALL_READ: Mapping[str, Any] = MappingProxyType({})


class LogEntry(NamedTuple):
    """One log entry. ``error`` is why a command, an event or a result cannot be read.

    ``result`` has the fields of a result that the projection uses, and no others. ``items`` are the ids of the intents
    of a batch, ``results`` the results of one, each as an entry of its own.
    """

    seq: int
    address: Address
    raw: bytes
    id: str | None
    cause: str | None = None
    rejected: bool = False
    generation: int = 0
    message: Message | None = None
    result: Payload | None = None
    error: BadInput | None = None
    reply_to: str | None = None
    items: tuple[str, ...] = ()
    results: tuple[LogEntry, ...] = ()


def read_entry(seq: int, subject: str, raw: bytes, reply_to: str | None = None) -> LogEntry | None:
    """Read an entry as far as its kind needs it; ``None`` if the subject is not one of Mafalda's.

    Args:
        seq: The entry's log sequence.
        subject: Where it is stored.
        raw: What is stored.
        reply_to: The private inbox that its header names.
    """
    address = parse(subject)
    return read_at(seq, address, raw, reply_to) if address else None


def read_at(seq: int, address: Address, raw: bytes, reply_to: str | None = None) -> LogEntry:
    """As ``read_entry``, for a subject that was parsed before."""
    if address.kind == "intent":
        items = _ids_of_items(raw) if address.action == IntentBatch.action else ()
        return LogEntry(seq, address, raw, peek_id(raw), reply_to=reply_to, items=items)
    if address.kind == "result":
        return _read_result(seq, address, raw)
    try:
        message = check_message(address, raw, _UNREAD.get(address.action, _ALL_READ))
    except BadInput as error:
        return LogEntry(seq, address, raw, peek_id(raw), error=error)
    return LogEntry(seq, address, raw, message.id, message.causationid, message=message)


def read_load(subject: str, raw: bytes) -> tuple[Message, ServerLoad]:
    """Read a load report: the message, and its data.

    Raises:
        BadInput: It is not a load report, or it is another server's.
    """
    _, message = read_message(subject, raw)
    if not isinstance(message.data, ServerLoad):
        raise MalformedMessage("not a load report", type=message.type)
    return message, message.data


def rejection_error(entry: LogEntry) -> MafaldaError:
    """The error of a stored rejection."""
    try:
        rejected = check_message(entry.address, entry.raw).data
    except BadInput as error:
        return error
    return rejected.error.to_error() if isinstance(rejected, Rejected) else MafaldaError("the join was rejected")


def _ids_of_items(raw: bytes) -> tuple[str, ...]:
    """The ids of the intents of a batch that may be otherwise unreadable."""
    try:
        ids = [item["id"] for item in orjson.loads(raw)["data"]["items"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ()
    return tuple(id for id in ids[:MAX_BATCHED] if isinstance(id, str) and is_id(id))


def _read_result(seq: int, address: Address, raw: bytes) -> LogEntry:
    try:
        fields: Any = orjson.loads(raw)
        found = _result_entry(seq, address, raw, fields)
        if fields["type"] != _BATCH:
            return found
        results = [
            _result_entry(seq, address._replace(action=str(item["intent"])), raw, item)
            for item in fields["data"]["items"]
        ]
        return found._replace(results=tuple(results))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return LogEntry(seq, address, raw, None, error=MalformedMessage("a result that cannot be read"))


def _result_entry(seq: int, address: Address, raw: bytes, fields: dict[str, Any]) -> LogEntry:
    data = fields["data"]
    generation = data.get("generation")
    return LogEntry(
        seq,
        address,
        raw,
        _text(fields.get("id")),
        _text(fields.get("causationid")),
        rejected=fields["type"] == _REJECTED,
        generation=generation if isinstance(generation, int) else 0,
        result=_used_fields(fields["type"], data),
    )


def _used_fields(type_name: str, data: dict[str, Any]) -> Payload | None:
    """What the projection uses of a result; ``None`` if it uses none of this kind, or a field is of a wrong type."""
    if type_name == _SUBSCRIBED:  # one for each peer, and all of it is used
        try:
            return SubscribeResult.model_validate(data, by_alias=True, by_name=False)
        except ValidationError:
            return None
    if type_name not in _USED:
        return None
    kind, used = _USED[type_name]
    values = {name: data.get(to_camel(name)) for name in used}
    if not all(isinstance(values[name], of) for name, of in used.items()):
        return None
    target = data.get("target")
    if "target" in kind.model_fields:
        values["target"] = target if isinstance(target, str) else None
    return kind.model_construct(**values)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
