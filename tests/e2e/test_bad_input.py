"""What bad input gets: a specific error for its sender, and no harm to anybody else.

Published by hand with nats-py, as a careless or hostile client would.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.e2e.conftest import Up

DEADLINE_S = 10


def event(action: str, data: object, **changed: object) -> bytes:
    """A CloudEvent as a client in another language would write it."""
    attributes = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/test",
        "type": f"mafalda.intent.{action}.v1",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps({**attributes, **changed}).encode()


class Stranger:
    """A client with nothing but a NATS connection."""

    def __init__(self, connection: Client, room: str) -> None:
        self.connection = connection
        self.room = room
        self.answers: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.seen: list[str] = []  # subjects, in order

    async def listen(self) -> None:
        async def keep(message: Any) -> None:
            self.seen.append(message.subject)
            await self.answers.put((message.subject, json.loads(message.data)))

        await self.connection.subscribe(f"live.mafalda.room.{self.room}.peer.*.result.*", cb=keep)
        await self.connection.flush()

    async def publish(self, peer: str, action: str, raw: bytes) -> None:
        await self.connection.jetstream().publish(f"mafalda.room.{self.room}.peer.{peer}.intent.{action}", raw)

    async def ask(self, peer: str, action: str, raw: bytes) -> dict[str, Any]:
        """The next answer on this peer's result subject of this action."""
        await self.publish(peer, action, raw)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                subject, answer = await self.answers.get()
                if subject.endswith(f".peer.{peer}.result.{action}"):
                    return answer

    async def joined(self, peer: str) -> dict[str, Any]:
        answer = await self.ask(peer, "join", event("join", {}))
        assert answer["type"] == "mafalda.result.join.v1"
        data: dict[str, Any] = answer["data"]
        return data


@asynccontextmanager
async def stranger(fleet: Up, room: str | None = None) -> AsyncIterator[Stranger]:
    connection = await nats.connect(fleet.nats_url)
    try:
        someone = Stranger(connection, room or f"bad-{uuid.uuid4().hex[:8]}")
        await someone.listen()
        yield someone
    finally:
        await connection.close()


def error_of(answer: dict[str, Any]) -> str:
    assert answer["type"] == "mafalda.result.rejected.v1", answer
    code: str = answer["data"]["error"]["code"]
    assert answer["data"]["error"]["message"]
    return code


CREATE = {"transport": "t1"}
OPUS = {
    "mid": "0",
    "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
    "encodings": [{"ssrc": 22222222}],
    "rtcp": {"cname": "x"},
}


@pytest.mark.parametrize(
    ("action", "raw", "code"),
    [
        ("join", b"\x00\xff not json", "malformed-message"),
        ("join", b"[]", "malformed-message"),
        ("join", event("join", {}, specversion="0.3"), "malformed-message"),
        ("join", event("join", {}, id="bad id!"), "malformed-message"),
        ("join", event("join", {"region": "not a legal id"}), "malformed-message"),
        ("join", event("join", {}, type="mafalda.intent.join.v9"), "unknown-version"),
        ("fly", event("fly", {}), "unknown-type"),
        ("join", event("join", {"appData": {"x": "y" * 600_000}}), "message-too-large"),
        (
            "produce",
            event("produce", {"producer": "p", "transport": "t", "mediaKind": "audio", "rtpParameters": OPUS}),
            "not-joined",
        ),
        ("leave", event("leave", {}), "not-joined"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(fleet: Up, action: str, raw: bytes, code: str) -> None:
    async with stranger(fleet) as someone:
        assert error_of(await someone.ask("mallory", action, raw)) == code
        await someone.joined("alice")  # nobody was disturbed


async def test_an_illegal_id_is_refused_where_its_sender_listens(fleet: Up) -> None:
    async with stranger(fleet) as someone:
        assert error_of(await someone.ask("not$legal", "join", event("join", {}))) == "illegal-id"
        assert error_of(await someone.ask("x" * 65, "join", event("join", {}))) == "illegal-id"


@pytest.mark.parametrize(
    ("peer", "action", "code"), [("*", "join", "illegal-id"), ("mallory", ">", "malformed-message")]
)
async def test_what_no_result_subject_can_carry_is_refused_in_the_inbox(
    fleet: Up, peer: str, action: str, code: str
) -> None:
    async with stranger(fleet) as someone:
        inbox = someone.connection.new_inbox()
        answers = await someone.connection.subscribe(inbox)
        await someone.connection.flush()
        subject = f"mafalda.room.{someone.room}.peer.{peer}.intent.{action}"
        raw = event("join", {}, id=f"bad-{uuid.uuid4().hex}")
        await someone.connection.jetstream().publish(subject, raw, headers={"Mafalda-Reply-To": inbox})
        await someone.joined("alice")  # NATS republishes no such subject: the next entry shows that one was missed
        answer = json.loads((await answers.next_msg(DEADLINE_S)).data)
        assert error_of(answer) == code
        assert answer["causationid"] == json.loads(raw)["id"]


async def test_a_placed_peer_gets_specific_errors_too(fleet: Up) -> None:
    async with stranger(fleet) as someone:
        await someone.joined("bob")
        created = await someone.ask("bob", "create-transport", event("create-transport", CREATE))
        assert created["type"] == "mafalda.result.transport.v1"
        assert "iceParameters" not in created["data"]
        assert (
            error_of(await someone.ask("bob", "create-transport", event("create-transport", CREATE)))
            == "already-exists"
        )

        def produce(**changed: object) -> bytes:
            parameters = {**OPUS, **changed}
            data = {"producer": "p1", "transport": "t1", "mediaKind": "audio", "rtpParameters": parameters}
            return event("produce", data)

        unknown = [{"mimeType": "audio/G722", "payloadType": 9, "clockRate": 8000}]
        assert error_of(await someone.ask("bob", "produce", produce(codecs=unknown))) == "unsupported"
        refused = error_of(await someone.ask("bob", "produce", produce(codecs=[])))
        assert refused in ("invalid-parameters", "malformed-message", "unsupported")
        good = await someone.ask("bob", "produce", produce())
        assert good["type"] == "mafalda.result.produce.v1"
        assert error_of(await someone.ask("bob", "produce", produce(encodings=[{"ssrc": 3}]))) == "already-exists"

        consume = {"consumer": "c1", "transport": "t1", "producer": "nobodys", "rtpCapabilities": {"codecs": []}}
        assert error_of(await someone.ask("bob", "consume", event("consume", consume))) == "not-found"
        consume["producer"] = "p1"
        assert error_of(await someone.ask("bob", "consume", event("consume", consume))) == "cannot-consume"
        assert (
            error_of(await someone.ask("bob", "close-producer", event("close-producer", {"producer": "x"})))
            == "not-found"
        )


async def test_the_same_intent_twice_is_the_same_intent(fleet: Up) -> None:
    async with stranger(fleet) as someone:
        intent = event("join", {})
        first = await someone.ask("carol", "join", intent)
        before = list(someone.seen)
        await someone.publish("carol", "join", intent)  # with no Nats-Msg-Id: stored twice
        await someone.joined("dave")  # so that whatever would be said to carol has been said
        assert not any(".peer.carol." in subject for subject in someone.seen[len(before) :])
        assert first["data"]["generation"] == 1


async def test_poison_on_any_subject_blocks_no_reader(fleet: Up) -> None:
    async with stranger(fleet) as someone:
        log = someone.connection.jetstream()
        for subject in (
            f"mafalda.room.{someone.room}.event.producer-opened",
            f"mafalda.room.{someone.room}.peer.x.result.join",
            f"mafalda.command.{someone.room}.server-1.place-peer",
            "mafalda.server.server-1.event.worker-died",
        ):
            await log.publish(subject, b"\xde\xad\xbe\xef")
        await someone.joined("erin")
    assert fleet.json("replay", "--verify")["ok"]
    assert "UNREADABLE" in fleet.mafalda("log", "--room", someone.room).stdout


async def test_an_agent_answers_no_secret_to_a_subject_that_is_no_inbox(fleet: Up) -> None:
    async with stranger(fleet) as someone:
        await someone.joined("frank")
        subject = f"mafalda.room.{someone.room}.peer.frank.intent.create-transport"
        headers = {"Mafalda-Reply-To": f"mafalda.room.{someone.room}.event.peer-left"}
        await someone.connection.jetstream().publish(subject, event("create-transport", CREATE), headers=headers)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answered, answer = await someone.answers.get()
                if answered.endswith(".result.create-transport"):
                    break
        assert error_of(answer) == "illegal-reply-subject"
