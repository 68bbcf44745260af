"""Log entries as records, decoded if possible, and exported log files with one record per line.

A line of an exported file is a JSON object: ``{"seq", "subject", "message"}``, where ``message`` is the CloudEvent as
stored, or ``{"seq", "subject", "error", "raw"}`` for an entry that cannot be decoded.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract.batches import read_intents, read_results
from mafalda.contract.messages.envelope import Message, decode, encode
from mafalda.contract.messages.intents import IntentBatch
from mafalda.contract.messages.results import ResultBatch
from mafalda.contract.subjects import Address, parse
from mafalda.errors import BadInput, MalformedMessage


@dataclass(frozen=True, slots=True)
class Record:
    """One log entry. Either ``message`` is set, or ``error`` says why it cannot be decoded."""

    seq: int
    subject: str
    raw: bytes
    message: Message | None
    error: BadInput | None

    @property
    def address(self) -> Address | None:
        return parse(self.subject)

    def to_json_line(self) -> bytes:
        """The record as one line of an exported file."""
        fields: dict[str, Any] = {"seq": self.seq, "subject": self.subject}
        if self.message is not None:
            fields["message"] = orjson.loads(self.raw)
        else:
            fields["error"] = str(self.error)
            fields["raw"] = base64.b64encode(self.raw).decode()
        return orjson.dumps(fields)


def record(delivery: Delivery) -> Record:
    """Decode a delivery; one that cannot be decoded becomes a record with an error."""
    try:
        return Record(delivery.seq, delivery.subject, delivery.data, decode(delivery.data), None)
    except BadInput as error:
        return Record(delivery.seq, delivery.subject, delivery.data, None, error)


def unbatched(found: Record) -> Iterator[Record]:
    """The intents or results of a batch as records of their own, under the batch's sequence; else the record itself."""
    address, message = found.address, found.message
    if address is None or message is None or not isinstance(message.data, IntentBatch | ResultBatch):
        yield found
        return
    for item, error in read_intents(message):
        own = address if error else address._replace(action=item.data.action)
        yield Record(found.seq, own.subject, encode(item), None if error else item, error)
    if isinstance(message.data, ResultBatch):
        for own, item in read_results(address, message):
            yield Record(found.seq, own.subject, encode(item), item, None)


async def read_log(bus: Bus, *patterns: str, after_seq: int = 0, up_to_seq: int | None = None) -> AsyncIterator[Record]:
    """Read the log as records, in order."""
    async for delivery in bus.read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq):
        yield record(delivery)


def read_lines(lines: Iterable[bytes]) -> Iterator[Record]:
    """Read the records of an exported file.

    Raises:
        MalformedMessage: A line is not a record; the error has its number.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = orjson.loads(line)
            raw = orjson.dumps(fields["message"]) if "message" in fields else base64.b64decode(fields["raw"])
            yield record(Delivery(subject=fields["subject"], data=raw, seq=fields["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedMessage("not a line of an exported log", line=number, problem=repr(error)) from None
