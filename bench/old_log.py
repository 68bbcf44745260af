"""A log of a month with many rooms, most of which have ended; from templates, so that millions take minutes.

Each room has five peers who all hear each other. The rooms that live are the first of the log, so that every state
of the past has them, and so that a log without a past has them at the same sequences. What does not belong here: what
is measured on it (``snapshots``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client

from mafalda.contract.messages.envelope import encode
from mafalda.testing.builders import message
from mafalda.testing.stories import Story

Entry = tuple[str, bytes]

PEERS = 5
SERVER, WORKER = "s1", "s1-0"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LENGTH = timedelta(days=30)
_ROOM = "room-of-the-bench"
_TIME = re.compile(rb'"time":"[^"]*"')
#: Entries without an acknowledgement. NATS drops what exceeds its queue of 10,000.
_WINDOW = 2_000
_ACK_TIMEOUT_S = 120


def living(index: int) -> str:
    """The name of a room that has not ended."""
    return f"living-{index:07d}"


async def fill_living(client: Client, rooms: int) -> int:
    """Publish a server's start, and rooms that do not end, into an empty log; returns its last sequence."""
    entries = list(_entries(ended=False))
    for subject, data in _started():
        await client.request(subject, data)
    for index in range(rooms):
        await _publish(client, living(index), entries, BEGIN, 1 + index * len(entries))
    return await _end(client)


async def fill_past(client: Client, past: int, after_seq: int) -> tuple[int, dict[str, list[int]]]:
    """Publish rooms that have ended.

    Args:
        client: Connected.
        past: Their entries, about.
        after_seq: The log's last sequence.

    Returns:
        The log's last sequence; and what a snapshot has of these rooms: the sequence of each one's last command, and
        its last generation.
    """
    entries = list(_entries(ended=True))
    last_command = max(index for index, (subject, _) in enumerate(entries) if subject.startswith("mafalda.command."))
    idle: dict[str, list[int]] = {}
    rooms = past // len(entries)
    for index in range(rooms):
        name, before = f"ended-{index:07d}", after_seq + index * len(entries)
        await _publish(client, name, entries, BEGIN + LENGTH * index / rooms, before)
        idle[name] = [before + last_command + 1, 1]
    return await _end(client), idle


async def _publish(client: Client, room: str, entries: list[Entry], time: datetime, before: int) -> None:
    """Publish the entries of a room; so many entries are before them."""
    name, at = room.encode(), b'"time":"%s"' % time.isoformat().encode()
    for number, (subject, data) in enumerate(entries, before):
        entry = subject.replace(_ROOM, room), _TIME.sub(at, data.replace(_ROOM.encode(), name), count=1)
        if number % _WINDOW == 0:
            await client.request(*entry, timeout=_ACK_TIMEOUT_S)  # entries are stored in order
        else:
            await client.publish(*entry)


async def _end(client: Client) -> int:
    """Publish an entry that means nothing, and await that all are stored; returns its sequence."""
    stored = await client.request("mafalda.server.nobody.event.bench", b"{}", timeout=_ACK_TIMEOUT_S)
    return int(json.loads(stored.data)["seq"])


def _started() -> Iterator[Entry]:
    for _, subject, payload in Story().server_starts(SERVER, WORKER).entries:
        yield subject, encode(message(payload, subject=subject))


def _entries(*, ended: bool) -> Iterator[Entry]:
    """The log of one room, without ids of NATS, so that nothing is taken for a duplicate."""
    story = Story(_ROOM).server_starts(SERVER, WORKER)
    names = [f"p{index}" for index in range(PEERS)]
    for name in names:
        story.joins(name, WORKER).opens_transport(name).produces(name, f"{name}-mic", worker=WORKER)
    for name in names:
        for other in names:
            if other != name:
                story.consumes(name, f"{name}-{other}", f"{other}-mic")
    if ended:
        for name in names:
            story.leaves(name)
    for _, subject, payload in story.entries[1:]:
        yield subject, encode(message(payload, subject=subject))
