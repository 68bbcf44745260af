"""Clients of version 1 and the present fleet: what they sent is sent again as recorded, and answered as then."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

from mafalda.testing.wire_session import (
    Participant,
    Step,
    WireMessage,
    in_room,
    load,
    missing_fields,
    participants,
    worker_pid,
)
from tests.e2e.conftest import up

SESSION = Path(__file__).parents[1] / "replays" / "v1-session.json"


async def test_a_session_of_version_1_is_answered_as_it_was(state: Path) -> None:
    steps = load(SESSION)
    run = uuid.uuid4().hex[:8]
    room = f"session-{run}"
    ids = {step.sent.message["id"]: f"{step.sent.message['id']}-{run}" for step in steps if step.sent}
    with up(state, "--workers", "2", "--policy", "spread") as fleet:
        async with participants(fleet.nats_url, room, ["alice", "bob"]) as people:
            worker = ""
            for step in steps:
                for recorded, seen in await replay(step, people, room, ids, fleet.nats_url, worker):
                    problems = missing_fields(recorded.message, seen.message)
                    assert problems == [], f"{step.name}: {seen.message['type']}"
                    assert seen.headers.keys() == recorded.headers.keys()
                    assert follows(recorded, seen, ids), f"{step.name}: {seen.message['type']} follows from another"
                    if seen.key == ("alice", "peer result mafalda.result.join.v1"):
                        worker = seen.message["data"]["worker"]


async def replay(
    step: Step, people: dict[str, Participant], room: str, ids: dict[str, str], nats_url: str, worker: str
) -> list[tuple[WireMessage, WireMessage]]:
    """Do what a step did; each message that was received then, with the one that came now."""
    came: list[WireMessage] = []
    if step.sent:
        came = await people[step.sent.by].send(in_room(step.sent, room, ids))
    elif step.fault == "kill-worker":
        os.kill(await worker_pid(nats_url, worker), signal.SIGKILL)
    replies = [message for message in step.received if message.subject.startswith("_INBOX") and came]
    others = [message for message in step.received if message not in replies]
    return [*zip(replies, came, strict=True)] + [
        (message, await people[message.by].take(message.key)) for message in others
    ]


def follows(recorded: WireMessage, seen: WireMessage, ids: dict[str, str]) -> bool:
    """Whether a message follows from the same intent as the recorded one, if that followed from one."""
    return all(
        recorded.message.get(name) not in ids or seen.message.get(name) == ids[recorded.message[name]]
        for name in ("causationid", "correlationid")
    )
