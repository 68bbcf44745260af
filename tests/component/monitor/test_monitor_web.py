"""The monitor's JSON, of a story on an in-memory bus: now, and at every moment of the past."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.types import Message

from mafalda.bus.protocol import Delivery
from mafalda.cli.history import History
from mafalda.contract.messages.envelope import encode
from mafalda.monitor.web.past import Checkpoints
from mafalda.monitor.web.routes import Api
from mafalda.monitor.web.watcher import Watcher, watching
from mafalda.testing.builders import message
from mafalda.testing.memory_bus import MemoryBus
from mafalda.testing.stories import Story


def a_story() -> Story:
    story = Story("lobby").server_starts("s1", "s1-a", "s1-b")
    story.joins("alice", "s1-a").opens_transport("alice").produces("alice", "mic", worker="s1-a")
    story.joins("bob", "s1-b").opens_transport("bob")
    story.opens_relay("mic", "s1-a", "s1-b").consumes("bob", "bob-mic", "mic")
    return story.leaves("bob").worker_dies("s1-b")


def store(bus: MemoryBus, story: Story, after_seq: int = 0) -> None:
    for seq, subject, payload in story.entries[after_seq:]:
        bus.broker.store(subject, encode(message(payload, id=f"m{seq}", subject=subject)), {})


class Client:
    """Asks an application as an HTTP server would."""

    def __init__(self, application: Starlette, watcher: Watcher) -> None:
        self._application = application
        self.watcher = watcher

    async def get(self, path: str, query: str = "", *, status: int = HTTPStatus.OK) -> Any:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(part: Message) -> None:
            sent.append(part)

        scope = {"type": "http", "method": "GET", "path": f"/api/{path}", "query_string": query.encode(), "headers": []}
        await self._application(scope, receive, send)
        assert sent[0]["status"] == status, sent
        return orjson.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@asynccontextmanager
async def monitoring(bus: MemoryBus, up_to_seq: int) -> AsyncIterator[Client]:
    """A monitor that has followed the log up to a sequence."""
    async with watching(bus) as watcher:
        watcher.checkpoints = Checkpoints(every=3)
        with watcher.listening() as queue:
            while watcher.state.seq < up_to_seq:
                await queue.take()
        yield Client(Starlette(routes=Api(watcher, History(bus, None)).routes()), watcher)


async def test_every_moment_of_the_past_is_what_the_log_says() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    async with monitoring(bus, len(story.entries)) as client:
        replayed = Story("lobby")
        for seq, subject, payload in story.entries:
            replayed.append(payload, subject=subject)
            fleet = await client.get("fleet", f"seq={seq}")
            assert fleet["seq"] == seq
            assert fleet["peers"] == len(replayed.room.peers)
            assert fleet["relays"] == len(replayed.room.relays)
            peers = await client.get("rooms", f"seq={seq}")
            assert [row["peers"] for row in peers["rows"]] == [len(it.peers) for it in replayed.state.rooms.values()]
        assert (await client.get("fleet"))["seq"] == len(story.entries)


async def test_a_room_its_peers_and_why_they_are_where_they_are() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    async with monitoring(bus, len(story.entries)) as client:
        seq = f"seq={len(story.entries) - 2}"  # bob is still there
        room = await client.get("rooms/lobby", seq)
        assert room["trees"][0]["root"]["children"][0]["worker"] == "s1-b"
        peers = await client.get("rooms/lobby/peers", f"{seq}&q=bob")
        assert [(row["peer"], row["worker"], row["consumers"]) for row in peers["rows"]] == [("bob", "s1-b", 1)]
        alice = await client.get("rooms/lobby/peers/alice", seq)
        assert [decision["summary"] for decision in alice["decisions"]] == ["The story says so."] * 2  # place and relay
        assert (await client.get("rooms/lobby/peers/bob", seq))["status"] == "joined"
        gone = await client.get("rooms/lobby/peers/bob")
        assert (gone["status"], len(gone["decisions"])) == ("left", 1)
        assert (await client.get("problems"))["problems"][0]["cause"] == "worker-died"
        assert (await client.get("problems", seq))["problems"] == []


async def test_a_peer_that_is_looked_at_again_costs_what_is_new() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    known = len(story.entries)
    async with monitoring(bus, known) as client:
        first = await client.get("rooms/lobby/peers/alice")
        assert len(first["decisions"]) == 2
        reads: list[int] = []
        read = bus.read

        def counted(*patterns: str, after_seq: int = 0, up_to_seq: int | None = None) -> AsyncGenerator[Delivery, None]:
            reads.append(after_seq)
            return read(*patterns, after_seq=after_seq, up_to_seq=up_to_seq)

        bus.read = counted  # type: ignore[method-assign]  # what is read is what this is about
        assert await client.get("rooms/lobby/peers/alice") == first
        assert reads == []
        story.joins("carol", "s1-a").orders_relay("mic", "s1-a", "s1-b")
        with client.watcher.listening() as queue:
            store(bus, story, known)
            while client.watcher.state.seq < len(story.entries):
                await queue.take()
        again = await client.get("rooms/lobby/peers/alice")
        assert again["decisions"][1:] == first["decisions"]
        assert again["decisions"][0]["text"].startswith("relay mic")
        assert reads == [known]


async def test_the_log_is_read_page_by_page_and_entry_by_entry() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    async with monitoring(bus, len(story.entries)) as client:
        found: list[int] = []
        before: int | None = len(story.entries)
        while before is not None:
            page = await client.get("log", f"seq={before}&limit=4")
            found = [entry["seq"] for entry in page["entries"]] + found
            before = page["before"]
        assert found == [seq for seq, _, _ in story.entries]
        only = await client.get("log", "peer=bob&kind=event")
        assert {entry["action"] for entry in only["entries"]} <= {"transport-closed", "consumer-closed"}
        entry = await client.get("log/1")
        assert entry["message"]["type"] == "mafalda.event.server-started.v1"
        stored = await bus.stored_at(5)
        assert (await client.get("moment", f"at={stored.isoformat().replace('+', '%2B')}"))["seq"] >= 5
        early = datetime.fromisoformat("2001-01-01T00:00:00+00:00").isoformat().replace("+", "%2B")
        assert (await client.get("moment", f"at={early}"))["seq"] == 0


async def test_bad_requests_are_answered_with_their_reason() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    async with monitoring(bus, len(story.entries)) as client:
        for path, query, status, word in (
            ("fleet", "seq=-1", HTTPStatus.BAD_REQUEST, "sequence"),
            ("rooms", "limit=none", HTTPStatus.BAD_REQUEST, "number"),
            ("rooms/not an id", "", HTTPStatus.BAD_REQUEST, "id"),
            ("rooms/nowhere", "", HTTPStatus.NOT_FOUND, "room"),
            ("rooms/lobby/peers/nobody", "", HTTPStatus.NOT_FOUND, "peer"),
            ("log/4711", "", HTTPStatus.NOT_FOUND, "entry"),
            ("moment", "at=soon", HTTPStatus.BAD_REQUEST, "time"),
        ):
            answer = await client.get(path, query, status=status)
            assert word in answer["error"]["message"], (path, answer)


async def test_new_entries_reach_who_listens() -> None:
    bus, story = MemoryBus(), a_story()
    store(bus, story)
    async with monitoring(bus, len(story.entries)) as client:
        with client.watcher.listening() as queue:
            story.joins("carol", "s1-a")
            store(bus, story, len(story.entries) - 2)
            entry = await queue.take()
        assert entry.seq == len(story.entries) - 1
        assert (await client.get("rooms/lobby"))["peers"] == 2
