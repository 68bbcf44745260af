"""Each language's example joins a room, sees who publishes and a mute, and leaves: from the documentation alone."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from mafalda.testing.wire_session import Participant, in_room, load, participants
from tests.e2e.conftest import Up
from tests.languages.conftest import BUILD_TIMEOUT_S, LANGUAGES, go

SESSION = {
    step.sent.message["id"]: step.sent
    for step in load(Path(__file__).parents[1] / "replays" / "v1-session.json")
    if step.sent
}
DEADLINE_S = 60


async def publish(alice: Participant, room: str, name: str, answer: str) -> None:
    """Alice sends what she sent in the recorded session, and waits for her result."""
    recorded = SESSION[f"alice-{name}"]
    await alice.send(in_room(recorded, room, {recorded.message["id"]: f"{name}-{uuid.uuid4().hex}"}))
    await alice.take(("alice", f"peer result mafalda.result.{answer}.v1"))


async def next_line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The next thing that an example prints."""
    assert process.stdout
    async with asyncio.timeout(DEADLINE_S):
        line = await process.stdout.readline()
    assert line, "the example ended"
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.timeout(BUILD_TIMEOUT_S + 4 * DEADLINE_S)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_example_watches_a_room(fleet: Up, language: str) -> None:
    command = LANGUAGES[language]()
    room = f"{language}-{uuid.uuid4().hex[:8]}"
    async with participants(fleet.nats_url, room, ["alice"]) as people:
        alice = people["alice"]
        await publish(alice, room, "join", "join")
        await publish(alice, room, "create-transport", "transport")
        await publish(alice, room, "produce", "produce")
        process = await asyncio.create_subprocess_exec(
            *command, fleet.nats_url, room, "watcher", "producer-paused", stdout=asyncio.subprocess.PIPE
        )
        try:
            lines = [await next_line(process)]
            while "room" not in lines[-1]:
                lines.append(await next_line(process))
            assert {"alice", "watcher"} == {peer["peer"] for peer in lines[-1]["room"]["peers"]}
            assert [found["producer"] for found in lines[-1]["room"]["producers"]] == ["alice-mic"]
            await publish(alice, room, "mute", "done")
            while "left" not in lines[-1]:
                lines.append(await next_line(process))
            async with asyncio.timeout(DEADLINE_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await alice.take(("alice", "room event mafalda.event.peer-left.v1"))
    joined = next(line["joined"] for line in lines if "joined" in line)
    assert joined["generation"] == 1
    muted = [line["data"] for line in lines if line.get("event") == "producer-paused"]
    assert muted == [{"peer": "alice", "producer": "alice-mic"}]


@pytest.mark.timeout(BUILD_TIMEOUT_S + 4 * DEADLINE_S)
async def test_audio_from_go_is_heard_in_go_on_another_worker(fleet: Up) -> None:
    program, room = go(), f"go-{uuid.uuid4().hex[:8]}"

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *program, fleet.nats_url, room, *arguments, stdout=asyncio.subprocess.PIPE
        )

    publisher = await start("ana", "publish")
    processes = [publisher]
    try:
        placed = (await next_line(publisher))["joined"]
        assert await next_line(publisher) == {"published": "ana-mic"}
        receiver = await start("bob", "receive", "peer-left")
        processes.append(receiver)
        lines = [await next_line(receiver)]
        assert lines[0]["joined"]["worker"] != placed["worker"], "the policy spreads peers"
        while "heard" not in lines[-1]:
            lines.append(await next_line(receiver))
        assert lines[-1] == {"heard": "ana-mic", "packets": 50}
        publisher.send_signal(signal.SIGINT)
        while "left" not in lines[-1]:
            lines.append(await next_line(receiver))
        async with asyncio.timeout(DEADLINE_S):
            assert [await process.wait() for process in processes] == [0, 0]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    events = [line["event"] for line in lines if "event" in line]
    assert "relay-opened" in events
    assert events[-1] == "peer-left"
