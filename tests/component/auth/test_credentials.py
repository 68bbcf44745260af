"""Tokens and keys on a real nats-server: who gets in, what a hostile participant can do, and how it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest

from mafalda.aio.tasks import background
from mafalda.auth import service
from mafalda.auth.keys import create_keys
from mafalda.auth.nats_jwt import new_user_seed
from mafalda.auth.revocations import store_grants, store_revocation
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.connection.connection import Connection
from mafalda.bus.nats.bus import connect
from mafalda.bus.nats.server import ServerConfig, run_server
from mafalda.contract import subjects
from mafalda.contract.grants import Grants
from mafalda.contract.messages.intents import Leave
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import PermissionDenied
from tests.component.auth.conftest import DEADLINE_S, Closed

OWN = "mafalda.room.lobby.peer.alice"


async def test_strangers_are_refused(closed: Closed) -> None:
    expired = closed.tokens.mint(Grants(rooms=["lobby"], peer="alice"), life_s=60, now=1_700_000_000)
    for credential in ({}, {"token": "secret"}, {"user": "a", "password": "b"}, {"token": expired}):
        await refused(closed, **credential)
    await refused(closed, nkey_seed=new_user_seed())


async def refused(closed: Closed, **credential: Any) -> None:
    config = BusConfig.model_validate(
        {"servers": (closed.server.url,), "connect_timeout_s": DEADLINE_S, "ensure_streams": False, **credential}
    )
    with pytest.raises(PermissionDenied):
        async with connect(config):
            pass


@pytest.mark.parametrize("way", ["token", "password"])
async def test_a_token_opens_a_participants_subjects(closed: Closed, way: str) -> None:
    text = closed.mint()
    credential = {"user": "any", "password": text} if way == "password" else {"token": text}
    alice = await closed.connect(**credential)
    results = await alice.client.subscribe(f"live.{OWN}.result.*")
    inbox = await alice.client.subscribe("_INBOX.lobby.alice.private")
    await alice.client.flush()
    stored = orjson.loads((await alice.client.request(f"{OWN}.intent.join", b"{}", timeout=DEADLINE_S)).data)
    assert stored["stream"] == "MAFALDA_LOG"
    async with closed.role("agent") as agent:
        await agent.connection.request(f"{OWN}.result.join", b"answer", timeout_s=DEADLINE_S)
        await agent.connection.publish("_INBOX.lobby.alice.private", b"secret")
        assert (await results.next_msg(timeout=DEADLINE_S)).data == b"answer"
        assert (await inbox.next_msg(timeout=DEADLINE_S)).data == b"secret"
        granted = await agent.grants("lobby", "alice")
        assert granted == Grants(rooms=["lobby"], peer="alice")
        assert await agent.grants("lobby", "bob") is None
    assert alice.refused == []
    await alice.client.close()


HOSTILE_PUBLISH = (
    "mafalda.room.lobby.peer.bob.intent.leave",
    "mafalda.room.other.peer.alice.intent.join",
    f"{OWN}.intent.channel",
    f"{OWN}.result.join",
    f"{OWN}.event.transport-closed",
    "mafalda.room.lobby.event.producer-closed",
    "mafalda.command.lobby.s1.place-peer",
    "mafalda.room.lobby.event.relay-closed",
    "mafalda.server.s1.event.server-stopped",
    "mafalda.server.s1.event.server-lost",
    "mafalda.server.s1.event.server-draining",
    "mafalda.server.s1.event.worker-started",
    "mafalda.server.s1.event.worker-died",
    "mafalda.server.s1.load",
    "mafalda.server.ghost.event.server-started",
    "mafalda.server.ghost.load",
    f"{OWN}.query.channel",
    "mafalda.room.lobby.peer.bob.query.room",
    f"{OWN}.notice.channel",
    "mafalda.server.s1.request.set-carried",
    "mafalda.server.s1.notice.relay",
    "mafalda.snapshot.1.t.manifest",
    "mafalda.auth.request.revoke",
    "mafalda.auth.peer.lobby.alice",
    "mafalda.auth.revoked.x",
    "live.mafalda.room.lobby.event.producer-closed",
    "live.mafalda.server.s1.event.server-stopped",
    "_INBOX.lobby.bob.x",
    "_INBOX.0123456789abcdef01234567.0",
    "$JS.API.STREAM.INFO.MAFALDA_LOG",
    "$JS.API.STREAM.DELETE.MAFALDA_LOG",
    "$JS.API.DIRECT.GET.MAFALDA_LOG",
    "$SYS.REQ.USER.AUTH",
    "$SYS.REQ.SERVER.PING",
)
HOSTILE_SUBSCRIBE = (
    ">",
    "_INBOX.>",
    "_INBOX.lobby.bob.>",
    "live.>",
    "live.mafalda.room.lobby.>",
    "live.mafalda.room.lobby.peer.bob.result.*",
    "live.mafalda.room.other.event.*",
    "live.mafalda.command.>",
    "live.mafalda.server.>",
    f"{OWN}.intent.*",
    "mafalda.room.lobby.peer.bob.query.*",
    "mafalda.server.*.request.*",
    "mafalda.server.*.load",
    "mafalda.allocator.*.report.*",
    "mafalda.auth.>",
    "$SYS.>",
    "$SYS.REQ.USER.AUTH",
    "_R_.>",
)


async def test_a_hostile_participant_gets_permission_errors_and_stores_nothing(closed: Closed) -> None:
    alice = await closed.connect(token=closed.mint())
    async with closed.role("operator") as operator:
        before = await operator.last_seq()
        for subject in HOSTILE_PUBLISH:
            await alice.client.publish(subject, b"forged")
        for subject in HOSTILE_SUBSCRIBE:
            await alice.client.subscribe(subject)
        hostile = (*HOSTILE_PUBLISH, *HOSTILE_SUBSCRIBE)
        await alice.until_refused(len(hostile))
        for subject in hostile:
            assert any(f'"{subject.lower()}"' in refusal for refusal in alice.refused), subject
        assert await operator.last_seq() == before
    await alice.client.close()


async def test_an_application_waits_for_the_streams_that_it_may_not_make(tmp_path: Path) -> None:
    """As when NATS has restarted, and with it forgotten the load reports, before an agent or an allocator is back."""
    keys = create_keys(tmp_path / "keys")
    async with run_server(ServerConfig(port=0, accounts_conf=keys.accounts_conf)) as server:
        closed, ready = Closed(server, keys), asyncio.Event()

        async def application() -> None:
            async with closed.role("application"):
                ready.set()

        async with background(application(), name="application") as connecting, closed.role("allocator"):
            async with asyncio.timeout(DEADLINE_S):
                await ready.wait()
            await connecting


FORGED_FOR_A_SERVER = (
    "mafalda.server.s2.event.server-started",
    "mafalda.server.s2.event.server-stopped",
    "mafalda.server.s2.event.server-lost",
    "mafalda.server.s2.event.server-draining",
    "mafalda.server.s2.event.worker-started",
    "mafalda.server.s2.event.worker-died",
    "mafalda.server.s2.event.relays-requested",
    "mafalda.server.s2.event.load-sampled",
    "mafalda.server.s2.load",
    "mafalda.server.ghost.event.server-started",
    "mafalda.server.ghost.load",
    "mafalda.command.lobby.s1.place-peer",
    "mafalda.snapshot.1.t.manifest",
    "mafalda.auth.revoked.x",
    "live.mafalda.server.s2.event.server-stopped",
)
READ_BY_ONE_SERVER = ("mafalda.server.s2.request.*", "mafalda.server.s2.notice.*", "mafalda.server.*.request.*")


async def test_the_key_of_one_servers_agent_speaks_for_no_other(closed: Closed) -> None:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    seed = read_seed(closed.keys.agent("s1")).get_secret_value()
    agent = await nats.connect(closed.server.url, nkeys_seed_str=seed, error_cb=note, connect_timeout=DEADLINE_S)
    async with closed.role("operator") as operator:
        before = await operator.last_seq()
        for subject in FORGED_FOR_A_SERVER:
            await agent.publish(subject, b"forged")
        for subject in READ_BY_ONE_SERVER:
            await agent.subscribe(subject)
        hostile = (*FORGED_FOR_A_SERVER, *READ_BY_ONE_SERVER)
        async with asyncio.timeout(DEADLINE_S):
            while len(refused) < len(hostile):  # noqa: ASYNC110 - nats-py only calls back
                await asyncio.sleep(0.005)
        for subject in hostile:
            assert any(f'"{subject.lower()}"' in refusal for refusal in refused), subject
        assert await operator.last_seq() == before
        await agent.subscribe("mafalda.server.s1.request.*")
        await agent.publish("mafalda.server.s1.load", b"{}")
        await agent.request("mafalda.server.s1.event.server-stopped", b"{}", timeout=DEADLINE_S)
        assert await operator.last_seq() == before + 1
    assert len(refused) == len(hostile)
    await agent.close()


@pytest.mark.parametrize(
    "reply",
    ["mafalda.command.lobby.s1.x", "mafalda.server.s1.event.server-stopped", "mafalda.auth.revoked.x", "$JS.API.INFO"],
)
async def test_a_forged_reply_subject_leads_nowhere(closed: Closed, reply: str) -> None:
    """JetStream acknowledges wherever the publisher says; a participant's account has no way to the fleet's."""
    alice = await closed.connect(token=closed.mint())
    async with closed.role("operator") as operator:
        before = await operator.last_seq()
        await alice.client.publish(f"{OWN}.intent.join", b"{}", reply=reply)
        await alice.client.request(f"{OWN}.intent.join", b"{}", timeout=DEADLINE_S)
        await alice.client.request(f"{OWN}.intent.leave", b"{}", timeout=DEADLINE_S)
        stored = [entry.subject async for entry in operator.read("mafalda.>", after_seq=before)]
        assert stored == [f"{OWN}.intent.join", f"{OWN}.intent.join", f"{OWN}.intent.leave"]
    await alice.client.close()


async def test_a_revoked_token_ends_its_connections_and_its_peer(closed: Closed) -> None:
    text = closed.mint(rooms=["lobby", "annex"])
    first, second = await closed.connect(token=text), await closed.connect(token=text)
    other = await closed.connect(token=closed.mint(peer="bob"))
    async with closed.role("operator") as operator:
        before = await operator.last_seq()
        answer = await operator.connection.request(REVOKE_REQUEST, text.encode(), timeout_s=DEADLINE_S)
        assert orjson.loads(answer.data)["connections"] == 2
        async with asyncio.timeout(DEADLINE_S):
            await first.ended.wait()
            await second.ended.wait()
        await refused(closed, token=text)
        left = [entry.subject async for entry in operator.read("mafalda.>", after_seq=before)]
        assert left == [subjects.intent(room, "alice", Leave.action) for room in ("lobby", "annex")]
        denied = await operator.connection.request(REVOKE_REQUEST, b"no token", timeout_s=DEADLINE_S)
        assert orjson.loads(denied.data)["error"]["code"] == "bad-token"
    assert other.client.is_connected
    await other.client.close()


async def test_a_token_revoked_while_its_grants_are_stored_is_refused(
    closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = closed.mint()

    async def store_then_revoke(connection: Connection, grants: dict[str, Grants]) -> None:
        await store_grants(connection, grants)
        await store_revocation(connection, closed.tokens.verify(text, now=int(time.time())).id)

    monkeypatch.setattr(service, "store_grants", store_then_revoke)
    await refused(closed, token=text)


async def test_two_auth_services_share_the_work(closed: Closed) -> None:
    async with closed.auth_service():
        both = await closed.connect(token=closed.mint())
        await both.client.close()
    one = await closed.connect(token=closed.mint())
    await one.client.close()


async def test_a_moderator_removes_and_silences_others_of_its_room_alone(closed: Closed) -> None:
    mona = await closed.connect("mona", token=closed.mint(peer="mona", moderate=True))
    for action in ("leave", "pause-producer", "close-producer"):
        await mona.client.request(f"mafalda.room.lobby.peer.bob.intent.{action}", b"{}", timeout=DEADLINE_S)
    assert mona.refused == []
    for forbidden in ("lobby.peer.bob.intent.produce", "other.peer.bob.intent.leave"):
        await mona.client.publish(f"mafalda.room.{forbidden}", b"{}")
    await mona.until_refused(2)
    await mona.client.close()
