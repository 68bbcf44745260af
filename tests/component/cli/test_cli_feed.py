"""``mafalda feed``, a process of its own on a real NATS."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mafalda.bus.compose import compose
from mafalda.bus.nats.bus import NatsBus
from mafalda.contract import subjects
from mafalda.contract.messages.events import ConsumersClosed, PeerJoined


async def join(bus: NatsBus, room: str, peer: str) -> None:
    event = PeerJoined(peer=peer, server="s1", worker="w1", generation=1)
    subject = subjects.room_event(room, event.action)
    await bus.append(subject, compose(event, subject=subject, source="/test"))


async def test_the_audience_is_in_the_feed_too(nats_url: str, nats_bus: NatsBus) -> None:
    await join(nats_bus, "lobby", "alice")
    event = PeerJoined(peer="bob", server="s1", worker="w1", generation=1, audience=True)
    subject = subjects.peer_event("lobby", "bob", event.action)
    await nats_bus.append(subject, compose(event, subject=subject, source="/test"))
    closed = ConsumersClosed(subscription="all", generation=1, consumers=["c"])
    subject = subjects.peer_event("lobby", "bob", closed.action)
    await nats_bus.append(subject, compose(closed, subject=subject, source="/test"))
    await join(nats_bus, "lobby", "carol")
    for only in ([], ["--event", "peer-joined"]):
        _, lines, _ = await feed(nats_url, "--room", "lobby", "--after", "0", "-n", "3", *only)
        assert [it["event"]["data"]["peer"] for it in lines] == ["alice", "bob", "carol"]


async def feed(url: str, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Its exit code, the lines that it printed, and its errors."""
    command = (sys.executable, "-m", "mafalda", "feed", *arguments)
    environment = {**os.environ, "MAFALDA_NATS_URL": url}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        printed, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in printed.splitlines()], errors.decode()


async def test_a_cursor_goes_on_where_the_last_feed_ended(nats_url: str, nats_bus: NatsBus) -> None:
    for room, peer in (("lobby", "alice"), ("other", "bob"), ("lobby", "carol"), ("lobby", "dave")):
        await join(nats_bus, room, peer)
    code, lines, _ = await feed(nats_url, "--room", "lobby", "--cursor", "shop", "--after", "0", "-n", "2")
    assert code == 0
    assert [(it["seq"], it["room"], it["event"]["data"]["peer"]) for it in lines] == [
        (1, "lobby", "alice"),
        (3, "lobby", "carol"),
    ]
    _, lines, _ = await feed(nats_url, "--room", "lobby", "--cursor", "shop", "-n", "1")
    assert [it["event"]["data"]["peer"] for it in lines] == ["dave"]


async def test_an_event_that_does_not_exist_is_refused(nats_url: str) -> None:
    code, lines, errors = await feed(nats_url, "--event", "peer-vanished")
    assert (code, lines) == (1, [])
    assert "rooms have no such event" in errors
