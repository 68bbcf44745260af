"""A room's audience: what one more join costs, and what the SDK shows of it."""

from __future__ import annotations

import asyncio
import json
import uuid

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from mafalda.client import connect
from mafalda.contract.grants import Grants
from mafalda.contract.messages.events import PeerDemoted
from mafalda.contract.permissions import participant_permissions
from mafalda.errors import AudienceCannotProduce
from tests.e2e.conftest import Up
from tests.e2e.test_bad_input import event

DEADLINE_S = 30


class Crowd:
    """Peers of one room, each subscribed to all that a participant may read, over one connection, which counts."""

    def __init__(self, connection: Client, room: str) -> None:
        self._connection = connection
        self._room = room
        self._missing: set[tuple[str, str]] = set()  # what has not come yet: peer and message type
        self._complete = asyncio.Event()

    async def join(self, *peers: str, audience: bool = True) -> int:
        """Let peers join; returns how many messages were delivered to the whole crowd meanwhile."""
        for peer in peers:
            for subject in participant_permissions(Grants(rooms=[self._room], peer=peer)).subscribe:
                await self._connection.subscribe(subject, cb=self._take)
        await self._connection.flush()
        before = self._delivered
        joined = {(peer, kind) for peer in peers for kind in ("event.peer-joined", "result.join")}
        for peer in peers:
            await self._publish(peer, event("join", {"audience": audience}))
        await self._wait(joined)
        # NATS delivers a stream's messages one after the other: when the rejection is here, so is all before it.
        await self._publish(peers[0], b"no message")
        await self._wait({(peers[0], "result.rejected")})
        return self._delivered - before

    @property
    def _delivered(self) -> int:
        return int(self._connection.stats["in_msgs"])

    async def _publish(self, peer: str, raw: bytes) -> None:
        await self._connection.publish(f"mafalda.room.{self._room}.peer.{peer}.intent.join", raw)

    async def _wait(self, missing: set[tuple[str, str]]) -> None:
        self._missing = missing
        self._complete.clear()
        async with asyncio.timeout(DEADLINE_S):
            await self._complete.wait()

    async def _take(self, message: Msg) -> None:
        found = json.loads(message.data)
        peer = found["data"].get("peer") or message.subject.split(".peer.")[1].split(".")[0]
        self._missing.discard((peer, found["type"].removeprefix("mafalda.").removesuffix(".v1")))
        if not self._missing:
            self._complete.set()


async def test_a_join_of_the_audience_costs_as_much_in_a_large_room_as_in_a_small_one(fleet: Up) -> None:
    connection = await nats.connect(fleet.nats_url)
    try:
        crowd = Crowd(connection, f"hall-{uuid.uuid4().hex[:8]}")
        await crowd.join(*(f"p{number}" for number in range(10)))
        few = await crowd.join("one-more")
        await crowd.join(*(f"p{number}" for number in range(11, 200)))
        assert await crowd.join("another") == few
        assert await crowd.join("on-stage", audience=False) > 200, "who may send is announced to everybody"
    finally:
        await connection.close()


async def test_the_sdk_counts_and_lists_the_audience_and_shows_it_to_nobody(fleet: Up) -> None:
    room = f"hall-{uuid.uuid4().hex[:8]}"
    async with connect(fleet.nats_url) as client, client.join(room, "alice") as alice:
        async with client.join(room, "carol", app_data={"seat": 7}, audience=True) as carol:
            assert (set(alice.peers), set(carol.peers)) == ({"alice"}, {"alice"})
            assert await alice.audience_count() == 1
            assert [(it.peer, it.app_data) async for it in alice.audience()] == [("carol", {"seat": 7})]
            producer = await alice.produce_data(label="chat")
            received = await carol.consume_data(producer.id)
            assert received.label == "chat"
            with pytest.raises(AudienceCannotProduce):
                await carol.produce_data(label="mine")
            told = alice.events()
            await carol.set_audience(False)
            spoken = await carol.produce_data(label="mine")
            assert (await alice.consume_data(spoken.id)).label == "mine"
            await carol.set_audience(True)
            async for it in told:
                if isinstance(it, PeerDemoted):
                    break
            assert set(alice.peers) == {"alice"}
            assert await alice.audience_count() == 1
        assert set(alice.peers) == {"alice"}
