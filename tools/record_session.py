"""Record how two participants use a fleet, message by message: tests/replays/v1-session.json.

    mafalda up --workers 2 --policy spread &
    python tools/record_session.py nats://127.0.0.1:4222

docs/protocol.md is generated from the recording, and a test replays it against the present fleet. Record it again only
to add steps: it is what clients of version 1 send. The page's text is in tools/protocol.md.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mafalda.testing.media import DTLS, OPUS_PARAMETERS
from mafalda.testing.wire_session import ROOM, Participant, Step, WireMessage, participants, save, worker_pid

TARGET = Path(__file__).parent.parent / "tests" / "replays" / "v1-session.json"

Expected = list[tuple[str, str]]


def _result(peer: str, name: str) -> tuple[str, str]:
    return peer, f"peer result mafalda.result.{name}.v1"


def _room(peer: str, name: str) -> tuple[str, str]:
    return peer, f"room event mafalda.event.{name}.v1"


def _inbox(peer: str, name: str) -> tuple[str, str]:
    return peer, f"inbox mafalda.{name}.v1"


class Recorder:
    """Sends one message after another, and keeps what follows each."""

    def __init__(self, people: dict[str, Participant]) -> None:
        self.steps: list[Step] = []
        self._people = people
        self.capabilities: dict[str, Any] = {}

    async def step(self, name: str, by: str, what: str, data: dict[str, Any], expected: Expected) -> Step:
        """Publish one message and wait for all that is expected."""
        kind, action = what.split(".")
        id = f"{by}-{name}"
        message = {
            "specversion": "1.0",
            "id": id,
            "source": f"/client/{by}",
            "type": f"mafalda.{kind}.{action}.v1",
            "subject": f"mafalda.room.{ROOM}.peer.{by}.{kind}.{action}",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": data,
        }
        headers = {"Content-Type": "application/cloudevents+json"}
        if kind == "intent":
            headers |= {"Nats-Msg-Id": id, "Mafalda-Reply-To": "_INBOX.…"}
        step = Step(name, WireMessage(by, str(message["subject"]), message, headers))
        step.received += await self._people[by].send(step.sent)  # type: ignore[arg-type]
        return await self._follow(step, expected)

    async def kill(self, pid: int, name: str, expected: Expected) -> Step:
        """Kill a worker and wait for all that is expected."""
        step = Step(name, fault="kill-worker")
        os.kill(pid, signal.SIGKILL)
        return await self._follow(step, expected)

    async def _follow(self, step: Step, expected: Expected) -> Step:
        step.received += [await self._people[key[0]].take(key) for key in expected]
        self.steps.append(step)
        return step


async def record(nats_url: str) -> list[Step]:
    """The session: Alice publishes, Bob receives, Alice's worker dies, she comes back and leaves."""
    dtls = DTLS.to_json_dict()
    rtp = OPUS_PARAMETERS.to_json_dict()
    async with participants(nats_url, ROOM, ["alice", "bob"]) as people:
        session = Recorder(people)
        joined = await session.step(
            "join",
            "alice",
            "intent.join",
            {"appData": {"name": "Alice"}},
            [_room("alice", "peer-joined"), _result("alice", "join")],
        )
        place = joined.received[-1].message["data"]
        await session.step(
            "room",
            "alice",
            "query.room",
            {},
            [],
        )
        await session.step(
            "create-transport",
            "alice",
            "intent.create-transport",
            {"transport": "alice-send", "direction": "send"},
            [_inbox("alice", "result.transport"), _result("alice", "transport")],
        )
        await session.step(
            "connect-transport",
            "alice",
            "intent.connect-transport",
            {"transport": "alice-send", "dtlsParameters": dtls},
            [_result("alice", "done")],
        )
        await session.step(
            "produce",
            "alice",
            "intent.produce",
            {"producer": "alice-mic", "transport": "alice-send", "mediaKind": "audio", "rtpParameters": rtp},
            [_room("alice", "producer-opened"), _room("bob", "producer-opened"), _result("alice", "produce")],
        )
        await session.step(
            "join",
            "bob",
            "intent.join",
            {},
            [_room("alice", "peer-joined"), _result("bob", "join")],
        )
        await session.step(
            "create-transport",
            "bob",
            "intent.create-transport",
            {"transport": "bob-receive", "direction": "receive"},
            [_inbox("bob", "result.transport"), _result("bob", "transport")],
        )
        await session.step(
            "consume",
            "bob",
            "intent.consume",
            {
                "consumer": "bob-hears-alice",
                "transport": "bob-receive",
                "producer": "alice-mic",
                "rtpCapabilities": place["routerRtpCapabilities"],
            },
            [_room("bob", "relay-opened"), _result("bob", "consume")],
        )
        await session.step(
            "resume-consumer",
            "bob",
            "intent.resume-consumer",
            {"consumer": "bob-hears-alice"},
            [_result("bob", "done")],
        )
        await session.step(
            "refused",
            "bob",
            "intent.consume",
            {
                "consumer": "bob-hears-alice",
                "transport": "bob-receive",
                "producer": "alice-mic",
                "rtpCapabilities": place["routerRtpCapabilities"],
            },
            [_result("bob", "rejected")],
        )
        await session.step(
            "mute",
            "alice",
            "intent.pause-producer",
            {"producer": "alice-mic"},
            [_room("alice", "producer-paused"), _room("bob", "producer-paused"), _result("alice", "done")],
        )
        await session.step(
            "unmute",
            "alice",
            "intent.resume-producer",
            {"producer": "alice-mic"},
            [_room("alice", "producer-resumed"), _room("bob", "producer-resumed"), _result("alice", "done")],
        )
        await session.kill(
            await worker_pid(nats_url, place["worker"]),
            "worker-died",
            [
                _room("alice", "peer-moved"),
                _room("bob", "peer-moved"),
                ("bob", "peer event mafalda.event.consumer-closed.v1"),
                _result("alice", "join"),
            ],
        )
        await session.step(
            "create-transport-again",
            "alice",
            "intent.create-transport",
            {"transport": "alice-send", "direction": "send"},
            [_inbox("alice", "result.transport"), _result("alice", "transport")],
        )
        await session.step(
            "produce-again",
            "alice",
            "intent.produce",
            {"producer": "alice-mic", "transport": "alice-send", "mediaKind": "audio", "rtpParameters": rtp},
            [_room("alice", "producer-opened"), _room("bob", "producer-opened"), _result("alice", "produce")],
        )
        await session.step(
            "leave",
            "alice",
            "intent.leave",
            {},
            [_room("bob", "producer-closed"), _room("bob", "peer-left"), _result("alice", "done")],
        )
    return session.steps


def main() -> int:
    """Record a session at the NATS server of the command line."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    save(TARGET, asyncio.run(record(sys.argv[1])))
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
