"""Sessions of participants as they are on the wire: recorded from a fleet, and replayed against another one.

A participant is a plain NATS client, as in any language: it knows subjects and JSON, nothing else of Mafalda. What it
sends in a recorded session is sent again as it was, in another room; what it received is compared by subject, type
and fields.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

Json = dict[str, Any]

#: In a recording, the room, and the beginning of each message id; a replay has others.
ROOM = "lobby"
DEADLINE_S = 20
_REMOVED = "(removed)"
_HEADERS = ("Nats-Msg-Id", "Content-Type", "Mafalda-Reply-To", "Nats-Sequence")


@dataclass(slots=True)
class WireMessage:
    """One message: who sent or received it, on which subject, with which headers that matter."""

    by: str
    subject: str
    message: Json
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Who receives it, and what it is."""
        return self.by, f"{_channel(self.subject)} {self.message.get('type')}"


@dataclass(slots=True)
class Step:
    """What one participant sends, or what happens to the fleet (``fault``), and all that follows."""

    name: str
    sent: WireMessage | None = None
    fault: str | None = None
    received: list[WireMessage] = field(default_factory=list)


def load(path: Path) -> list[Step]:
    """Read a recorded session."""
    return [
        Step(
            **{
                **step,
                "sent": WireMessage(**step["sent"]) if step["sent"] else None,
                "received": [WireMessage(**message) for message in step["received"]],
            }
        )
        for step in json.loads(path.read_text(encoding="utf-8"))
    ]


def save(path: Path, steps: list[Step]) -> None:
    """Write a session, without its secrets."""
    text = json.dumps([asdict(step) for step in steps], indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


class Participant:
    """A peer of a room with the subjects that its credential needs, and no more.

    Args:
        connection: To NATS, this participant's own.
        room: The room.
        peer: The peer's id.
    """

    def __init__(self, connection: Client, room: str, peer: str) -> None:
        self.peer = peer
        self.inbox = f"_INBOX.{peer}-{uuid.uuid4().hex[:8]}"
        self._connection = connection
        self._room = room
        self._received: list[WireMessage] = []
        self._came = asyncio.Event()

    async def subscribe(self) -> None:
        """Subscribe to its results and events, to those of the room, and to its inbox."""
        own = f"live.mafalda.room.{self._room}.peer.{self.peer}"
        for subject in (f"{own}.result.*", f"{own}.event.*", f"live.mafalda.room.{self._room}.event.*", self.inbox):
            await self._connection.subscribe(subject, cb=self._take)
        await self._connection.flush()

    async def _take(self, received: Msg) -> None:
        subject = received.subject if received.subject != self.inbox else "_INBOX.…"
        headers = {name: value for name, value in (received.headers or {}).items() if name in _HEADERS}
        self._received.append(WireMessage(self.peer, subject, without_secrets(json.loads(received.data)), headers))
        self._came.set()

    async def send(self, message: WireMessage) -> list[WireMessage]:
        """Publish an intent, or request a query and return its reply."""
        raw = json.dumps(message.message).encode()
        if ".query." in message.subject:
            reply = await self._connection.request(message.subject, raw, timeout=DEADLINE_S)
            headers = {name: value for name, value in (reply.headers or {}).items() if name in _HEADERS}
            return [WireMessage(self.peer, "_INBOX.…", without_secrets(json.loads(reply.data)), headers)]
        headers = {**message.headers, "Mafalda-Reply-To": self.inbox}
        await self._connection.jetstream().publish(message.subject, raw, headers=headers)
        return []

    async def take(self, key: tuple[str, str]) -> WireMessage:
        """The first message of a kind that has come and was not taken yet.

        Raises:
            TimeoutError: None came; what came instead is in the text.
        """
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    self._came.clear()
                    for message in self._received:
                        if message.key == key:
                            self._received.remove(message)
                            return message
                    await self._came.wait()
        except TimeoutError:
            others = [message.key for message in self._received]
            raise TimeoutError(f"no {key}; {self.peer} received {others}") from None


@asynccontextmanager
async def participants(nats_url: str, room: str, peers: list[str]) -> AsyncIterator[dict[str, Participant]]:
    """Participants with connections of their own, subscribed."""
    async with AsyncExitStack() as stack:
        found: dict[str, Participant] = {}
        for peer in peers:
            connection = await nats.connect(nats_url, inbox_prefix=f"_INBOX.{peer}")
            stack.push_async_callback(connection.close)
            found[peer] = Participant(connection, room, peer)
            await found[peer].subscribe()
        yield found


async def worker_pid(nats_url: str, worker: str) -> int:
    """The process of a worker, from its server's next load report."""
    connection = await nats.connect(nats_url)
    try:
        loads = await connection.subscribe("mafalda.server.*.load")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                report = json.loads((await loads.next_msg(DEADLINE_S)).data)["data"]
                for load in report["workers"]:
                    if load["worker"] == worker:
                        return int(load["pid"])
    finally:
        await connection.close()


def in_room(message: WireMessage, room: str, ids: Mapping[str, str]) -> WireMessage:
    """A recorded message as it is sent in another room: other subject, other ids, now.

    Args:
        message: As recorded.
        room: The other room.
        ids: The other id of each recorded message id.
    """
    attributes = {**message.message, "subject": _moved(message.message["subject"], room)}
    attributes["id"] = ids[attributes["id"]]
    headers = {**message.headers, "Nats-Msg-Id": attributes["id"]} if "Nats-Msg-Id" in message.headers else {}
    headers |= {"Content-Type": "application/cloudevents+json"}
    return WireMessage(message.by, _moved(message.subject, room), attributes, headers)


def missing_fields(recorded: Any, seen: Any, place: str = "") -> list[str]:
    """What a recorded message holds and one that came now does not: fields that are gone, or of another JSON type."""
    if type(recorded) is not type(seen) and not (_is_number(recorded) and _is_number(seen)):
        return [f"{place}: was {type(recorded).__name__}, is {type(seen).__name__}"]
    if isinstance(recorded, dict):
        gone = [f"{place}.{name} is gone" for name in recorded if name not in seen]
        inner = (missing_fields(recorded[name], seen[name], f"{place}.{name}") for name in recorded if name in seen)
        return gone + [problem for problems in inner for problem in problems]
    if isinstance(recorded, list) and recorded and seen:
        return missing_fields(recorded[0], seen[0], f"{place}[0]")
    return []


def without_secrets(message: Json) -> Json:
    """A message without ICE credentials."""
    ice = message.get("data", {}).get("iceParameters")
    if ice:
        ice |= {"password": _REMOVED, "usernameFragment": _REMOVED}
    return message


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moved(subject: str, room: str) -> str:
    parts = subject.split(".")
    parts[parts.index("room") + 1] = room
    return ".".join(parts)


def _channel(subject: str) -> str:
    """Which of a participant's subscriptions a message came on."""
    if subject.startswith("_INBOX"):
        return "inbox"
    parts = subject.removeprefix("live.").split(".")
    return "room event" if parts[3] == "event" else f"peer {parts[5]}"
