"""A log of a month with many rooms, most of which have ended; from templates, so that millions take minutes.

Each room has five peers who all hear each other. The rooms that live are the first of the log, so that every state of
the past has them. What does not belong here: what is measured on it (``snapshots``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from nats.aio.client import Client

from mafalda.contract.messages.envelope import encode
from mafalda.testing.builders import message
from mafalda.testing.stories import Story

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


async def fill(client: Client, past: int, rooms: int) -> int:
    """Publish the log.

    Args:
        client: Connected to an empty log.
        past: Entries of rooms that have ended, about.
        rooms: That live.

    Returns:
        How many entries it has.
    """
    begun, ended = list(_entries(ended=False)), list(_entries(ended=True))
    names = [(living(index), begun) for index in range(rooms)]
    names += [(f"ended-{index:07d}", ended) for index in range(past // len(ended))]
    count = 0
    for subject, data in _started():
        await client.request(subject, data)
        count += 1
    for number, (room, entries) in enumerate(names):
        time = BEGIN + LENGTH * number / len(names)
        name, at = room.encode(), b'"time":"%s"' % time.isoformat().encode()
        for subject, data in entries:
            count += 1
            entry = subject.replace(_ROOM, room), _TIME.sub(at, data.replace(_ROOM.encode(), name), count=1)
            if count % _WINDOW == 0:
                await client.request(*entry, timeout=_ACK_TIMEOUT_S)  # entries are stored in order
            else:
                await client.publish(*entry)
    await client.request("mafalda.server.nobody.event.bench", b"{}", timeout=_ACK_TIMEOUT_S)
    return count + 1


def _started() -> Iterator[tuple[str, bytes]]:
    for _, subject, payload in Story().server_starts(SERVER, WORKER).entries:
        yield subject, encode(message(payload, subject=subject))


def _entries(*, ended: bool) -> Iterator[tuple[str, bytes]]:
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
