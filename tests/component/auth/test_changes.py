"""Revoking by id, peer and room, and changing grants, on a real nats-server: what holds at once, for which tokens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from mafalda.auth.tokens import LEEWAY_S
from mafalda.contract import subjects
from mafalda.contract.grants import ChangeRequest, GrantChange, Grants, Revocation
from mafalda.contract.messages.intents import ApplyGrants, Leave
from mafalda.contract.participant_token import read_participant_token
from mafalda.contract.permissions import GRANT_REQUEST, REVOKE_REQUEST, token_notices
from mafalda.media.model import Model
from tests.component.auth.conftest import DEADLINE_S, Closed
from tests.component.auth.test_credentials import refused


async def ask(closed: Closed, subject: str, request: Model, role: str = "application") -> dict[str, Any]:
    async with closed.role(role) as bus:
        data = orjson.dumps(request.to_json_dict())
        answer = await bus.connection.request(subject, data, timeout_s=DEADLINE_S)
        report: dict[str, Any] = orjson.loads(answer.data)
        return report


async def stored(closed: Closed, after_seq: int = 0) -> list[str]:
    async with closed.role("operator") as operator:
        return [entry.subject async for entry in operator.read("mafalda.>", after_seq=after_seq)]


def issued(closed: Closed, at: float, **grants: Any) -> str:
    wanted = Grants.model_validate({"rooms": ["lobby"], "peer": "alice", **grants})
    return closed.tokens.mint(wanted, life_s=600, now=int(at))


@pytest.mark.parametrize("peer", ["alice", None])
@pytest.mark.parametrize("role", ["application", "operator"])
async def test_tokens_for_a_room_or_a_peer_are_revoked(closed: Closed, peer: str | None, role: str) -> None:
    old = issued(closed, time.time() - 5)
    alice = await closed.connect(token=old)
    second = await closed.connect(token=issued(closed, time.time() - 4, rooms=["other", "lobby"]))
    bob = await closed.connect("bob", token=issued(closed, time.time() - 5, peer="bob"))
    elsewhere = await closed.connect(token=issued(closed, time.time() - 5, rooms=["other"]))
    report = await ask(closed, REVOKE_REQUEST, Revocation(room="lobby", peer=peer), role)
    ended = [alice, second] if peer else [alice, second, bob]
    assert report["tokens"] == report["connections"] == len(ended)
    async with asyncio.timeout(DEADLINE_S):
        for it in ended:
            await it.ended.wait()
    await refused(closed, token=old)
    left = set(await stored(closed))
    assert left == {subjects.intent("lobby", it, Leave.action) for it in (["alice"] if peer else ["alice", "bob"])}
    later = await closed.connect(token=issued(closed, time.time() + 5))
    assert elsewhere.client.is_connected
    assert bob.client.is_connected == (peer is not None)
    for it in (later, elsewhere, bob):
        await it.client.close()


async def test_a_token_for_several_rooms_opens_the_others_after_one_was_revoked(closed: Closed) -> None:
    """Who may speak for one room, such as an application with a token for it, ends nobody's session in another."""
    text = issued(closed, time.time() - 5, rooms=["lobby", "other"])
    alice = await closed.connect(token=text)
    told = {room: await alice.client.subscribe(token_notices(room, "alice")) for room in ("lobby", "other")}
    await alice.client.flush()
    await ask(closed, REVOKE_REQUEST, Revocation(room="lobby", peer="alice"))
    async with asyncio.timeout(DEADLINE_S):
        await alice.ended.wait()
    assert {room: it.pending_msgs for room, it in told.items()} == {"lobby": 1, "other": 0}
    again = await closed.connect(room="other", token=text)
    await again.client.request(subjects.intent("other", "alice", "join"), b"{}", timeout=DEADLINE_S)
    await again.client.publish(subjects.intent("lobby", "alice", "join"), b"{}")
    await again.until_refused(1)
    assert subjects.intent("other", "alice", Leave.action) not in await stored(closed)
    await ask(closed, REVOKE_REQUEST, Revocation(room="other", peer="alice"))
    await refused(closed, token=text)


async def test_a_token_is_revoked_by_its_id(closed: Closed) -> None:
    text = closed.mint()
    token = read_participant_token(text)
    assert token is not None
    alice = await closed.connect(token=text)
    assert await ask(closed, REVOKE_REQUEST, Revocation(token_id=token.id)) == {
        "tokenId": token.id,
        "tokens": 1,
        "connections": 1,
    }
    async with asyncio.timeout(DEADLINE_S):
        await alice.ended.wait()
    await refused(closed, token=text)
    assert await stored(closed) == [subjects.intent("lobby", "alice", Leave.action)]


async def test_a_token_that_does_not_say_when_it_was_issued_is_revoked_with_its_room(closed: Closed) -> None:
    from joserfc import jwk, jwt

    from mafalda.auth.tokens import TokenKeys

    data = orjson.loads(closed.keys.tokens.read_bytes())["keys"][0]
    claims = {"exp": int(time.time()) + 600, "mafalda": {"rooms": ["lobby"], "peer": "alice"}}
    text = jwt.encode(
        {"alg": "Ed25519", "kid": data["kid"]}, claims, jwk.OKPKey.import_key(data), algorithms=["Ed25519"]
    )
    assert TokenKeys([data]).verify(text, now=int(time.time())).issued == 0
    await ask(closed, REVOKE_REQUEST, Revocation(room="lobby"))
    await refused(closed, token=text)


async def test_changed_grants_hold_at_once_and_for_the_same_token(closed: Closed) -> None:
    text = issued(closed, time.time() - 5)
    alice = await closed.connect(token=text)
    produce = subjects.intent("lobby", "alice", "produce")
    await alice.client.request(produce, b"{}", timeout=DEADLINE_S)
    change = ChangeRequest(room="lobby", peer="alice", grants=GrantChange(publish=[], data=False, moderate=True))
    report = await ask(closed, GRANT_REQUEST, change)
    assert report == {"tokens": 1, "connections": 1}
    async with asyncio.timeout(DEADLINE_S):
        await alice.ended.wait()
    apply = subjects.intent("lobby", "alice", ApplyGrants.action)
    assert set(await stored(closed)) == {produce, apply}
    async with closed.role("agent") as agent:
        assert await agent.grants("lobby", "alice") == Grants(
            rooms=["lobby"], peer="alice", publish=[], data=False, moderate=True
        )

    again = await closed.connect(token=text)
    await again.client.publish(produce, b"{}")
    await again.until_refused(1)
    await again.client.request(subjects.intent("lobby", "bob", "leave"), b"{}", timeout=DEADLINE_S)
    await again.client.request(subjects.intent("lobby", "alice", "end-room"), b"{}", timeout=DEADLINE_S)
    newer = await closed.connect(token=issued(closed, time.time() + LEEWAY_S - 1))
    await newer.client.request(produce, b"{}", timeout=DEADLINE_S)
    assert newer.refused == []

    await ask(closed, GRANT_REQUEST, ChangeRequest(room="lobby", peer="alice", grants=GrantChange()))
    async with asyncio.timeout(DEADLINE_S):
        await again.ended.wait()
    assert newer.client.is_connected
    back = await closed.connect(token=text)
    await back.client.request(produce, b"{}", timeout=DEADLINE_S)
    for it in (back, newer):
        await it.client.close()


async def test_only_one_room_of_a_token_is_changed(closed: Closed) -> None:
    text = issued(closed, time.time() - 5, rooms=["lobby", "annex"])
    await ask(
        closed, GRANT_REQUEST, ChangeRequest(room="lobby", peer="alice", grants=GrantChange(publish=[], data=False))
    )
    alice = await closed.connect(token=text)
    await alice.client.request(subjects.intent("annex", "alice", "produce"), b"{}", timeout=DEADLINE_S)
    await alice.client.publish(subjects.intent("lobby", "alice", "produce"), b"{}")
    await alice.until_refused(1)
    await alice.client.close()


@pytest.mark.parametrize(
    "request_", [b'{"room": "a.b"}', b"{}", b'{"room": "a", "tokenId": "b"}', b'{"peer": "alice"}']
)
async def test_what_names_nothing_is_refused(closed: Closed, request_: bytes) -> None:
    async with closed.role("operator") as operator:
        for subject in (REVOKE_REQUEST, GRANT_REQUEST):
            answer = await operator.connection.request(subject, request_, timeout_s=DEADLINE_S)
            assert orjson.loads(answer.data)["error"]["code"] == "bad-input"
