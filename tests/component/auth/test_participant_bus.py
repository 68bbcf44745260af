"""A participant's bus with a real token in a closed NATS: what is missed, what is repeated, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mafalda.auth.revocations import store_revocation
from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.log.append import append as append_entry
from mafalda.bus.participant.bus import ParticipantBus, connect
from mafalda.bus.participant.follower import ParticipantFollower
from mafalda.bus.protocol import Bus, Delivery
from mafalda.client import connect as connect_client
from mafalda.contract import subjects
from mafalda.contract.grants import Grants
from mafalda.contract.messages import events, intents, results
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.queries import LogEntries, QueryEntries
from mafalda.contract.participant_token import read_participant_token
from mafalda.contract.permissions import REVOKE_REQUEST
from mafalda.errors import LogTruncated, PermissionDenied
from mafalda.workers.agent.entries import EntriesServer
from mafalda.workers.config import AgentConfig
from mafalda.workers.log.publisher import Publisher
from tests.component.auth.conftest import DEADLINE_S, Closed

JOIN = subjects.intent("lobby", "alice", "join")
PATTERNS = (
    subjects.result("lobby", "alice", "*"),
    subjects.peer_event("lobby", "alice", "*"),
    subjects.room_event("lobby", "*"),
)
LEFT = events.PeerLeft(peer="bob", generation=1, reason="left")
DONE = results.Done(intent="join", generation=1)


@asynccontextmanager
async def participant(closed: Closed, text: str, **config: Any) -> AsyncIterator[ParticipantBus]:
    token = read_participant_token(text)
    assert token is not None
    settings = {"connect_timeout_s": DEADLINE_S, "append_timeout_s": DEADLINE_S, **config}
    async with connect(BusConfig(servers=(closed.server.url,), **settings), token) as bus:
        yield bus


@asynccontextmanager
async def agent(closed: Closed, *, page_bytes: int = 100_000) -> AsyncIterator[Bus]:
    """What answers, with an agent's key, and nothing else of an agent."""
    async with (
        closed.role("agent") as bus,
        EntriesServer(bus, Publisher(bus, "s1"), AgentConfig(server="s1"), page_bytes).serve(),
    ):
        yield bus


async def append(bus: Bus, subject: str, payload: Any) -> int:
    return (await bus.append(subject, compose(payload, subject=subject, source="/test"))).seq


async def left(bus: Bus, number: int = 1) -> list[int]:
    """Entries for everyone in the room; their sequences."""
    return [await append(bus, subjects.room_event("lobby", "peer-left"), LEFT) for _ in range(number)]


async def take(follower: AsyncIterator[Delivery], number: int) -> list[int]:
    async with asyncio.timeout(DEADLINE_S):
        return [(await anext(follower)).seq for _ in range(number)]


class Loss:
    """Lets messages to a follower get lost, as core NATS may."""

    def __init__(self, follower: AsyncIterator[Delivery], monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(follower, ParticipantFollower)
        self._context = monkeypatch.context()
        self._follower = follower
        self.lost = asyncio.Semaphore(0)

    def __enter__(self) -> Loss:
        self._context.__enter__().setattr(self._follower, "deliver", lambda *_: self.lost.release())
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)

    async def wait(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(number):
                await self.lost.acquire()


async def test_entries_come_in_log_order_without_any_api(closed: Closed) -> None:
    async with agent(closed) as fleet, participant(closed, closed.mint()) as alice, alice.follow(*PATTERNS) as follower:
        seqs = await left(fleet, 3)
        await append(fleet, subjects.room_event("other", "peer-left"), LEFT)
        seqs.append(await append(fleet, subjects.result("lobby", "alice", "join"), DONE))
        assert await take(follower, 4) == seqs
        assert alice.connection.refused == 0


@pytest.mark.parametrize("page_bytes", [1, 100_000])
async def test_what_was_lost_in_an_interruption_is_had_from_an_agent(
    closed: Closed, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    async with (
        agent(closed, page_bytes=page_bytes) as fleet,
        participant(closed, closed.mint()) as alice,
        alice.follow(*PATTERNS) as follower,
    ):
        first = await left(fleet)
        assert await take(follower, 1) == first
        with Loss(follower, monkeypatch) as loss:
            seqs = await left(fleet, 5)
            await loss.wait(5)
        await alice.connection.reconnect()
        assert await take(follower, 5) == seqs
        after = await left(fleet, 2)
        assert await take(follower, 2) == after


async def test_a_lost_entry_shows_when_the_next_one_on_its_subject_comes(
    closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent(closed) as fleet, participant(closed, closed.mint()) as alice, alice.follow(*PATTERNS) as follower:
        seqs = await left(fleet)
        assert await take(follower, 1) == seqs
        with Loss(follower, monkeypatch) as loss:
            lost = await left(fleet)
            await loss.wait(1)
        last = await left(fleet)
        assert await take(follower, 2) == [*lost, *last]


async def test_an_audit_finds_what_was_lost_at_the_end(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it no older entries are needed: that the log has discarded them is no error."""
    async with (
        agent(closed) as fleet,
        closed.role("allocator") as allocator,
        participant(closed, closed.mint(), audit_interval_s=0.05) as alice,
        alice.follow(*PATTERNS) as follower,
    ):
        assert await left(fleet) == await take(follower, 1)
        with Loss(follower, monkeypatch) as loss:
            for _ in range(3):
                await append(fleet, subjects.room_event("other", "peer-left"), LEFT)
            lost = await left(fleet)
            await loss.wait(1)
        assert await take(follower, 1) == lost
        await allocator.purge_log(before_seq=lost[0])
        await alice.connection.reconnect()
        assert await left(fleet) == await take(follower, 1)


async def test_a_repeated_intent_gets_its_result_again(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    async with agent(closed) as fleet, participant(closed, closed.mint()) as alice, alice.follow(*PATTERNS) as follower:
        join: Message = compose(intents.Join(), subject=JOIN, source="/test")
        with Loss(follower, monkeypatch) as loss:
            stored = await alice.append(JOIN, join)
            result = await append(fleet, subjects.result("lobby", "alice", "join"), DONE)
            await loss.wait(1)
        repeated = await alice.append(JOIN, join)
        assert (repeated.seq, repeated.duplicate) == (stored.seq, True)
        assert await take(follower, 1) == [result]


async def test_a_join_gets_its_result_after_other_entries_came_before_its_acknowledgement(
    closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with agent(closed) as fleet, participant(closed, closed.mint()) as alice, alice.follow(*PATTERNS) as follower:
        join: Message = compose(intents.Join(), subject=JOIN, source="/test")
        with Loss(follower, monkeypatch) as loss:
            await stored_unacknowledged(alice, join)
            result = await append(fleet, subjects.result("lobby", "alice", "join"), DONE)
            await loss.wait(1)
        assert await left(fleet) == await take(follower, 1)
        assert (await alice.append(JOIN, join)).duplicate
        assert await take(follower, 1) == [result]


async def stored_unacknowledged(bus: ParticipantBus, message: Message) -> None:
    """Store a message of which the client's bus knows nothing, as if the acknowledgement was lost."""
    await append_entry(bus.connection, message.subject or "", message, None, None)


async def entries(bus: ParticipantBus, after: int) -> LogEntries:
    subject = subjects.query("lobby", "alice", QueryEntries.action)
    query = compose(QueryEntries(after=after), subject=subject, source="/test")
    answer = await bus.request(subject, query, timeout_s=DEADLINE_S)
    assert isinstance(answer.data, LogEntries)
    return answer.data


async def test_nobody_gets_entries_that_its_token_does_not_show(closed: Closed) -> None:
    async with agent(closed) as fleet:
        await left(fleet)
        own = await append(fleet, subjects.result("lobby", "alice", "join"), DONE)
        await append(fleet, subjects.result("lobby", "bob", "join"), DONE)
        await append(fleet, subjects.room_event("other", "peer-left"), LEFT)
        async with participant(closed, closed.mint(roster=False)) as alice:
            answer = await entries(alice, 0)
            assert [entry.seq for entry in answer.entries] == [own]
            assert not answer.more
            with pytest.raises(PermissionDenied):
                async with alice.follow(*PATTERNS):
                    pass
        async with participant(closed, closed.mint()) as alice:
            assert [entry.seq for entry in (await entries(alice, 0)).entries] == [own - 1, own]


async def test_entries_that_are_not_kept_are_an_error(closed: Closed) -> None:
    async with agent(closed) as fleet, participant(closed, closed.mint()) as alice:
        seqs = await left(fleet, 3)
        async with closed.role("allocator") as allocator:
            await allocator.purge_log(before_seq=seqs[-1])
        with pytest.raises(LogTruncated):
            await entries(alice, seqs[0])


async def test_a_revoked_token_ends_it_with_the_reason(closed: Closed) -> None:
    text = closed.mint()
    async with (
        agent(closed) as fleet,
        closed.role("operator") as op,
        participant(closed, text) as alice,
        alice.follow(*PATTERNS) as follower,
    ):
        await op.connection.request(REVOKE_REQUEST, closed.mint().encode(), timeout_s=DEADLINE_S)
        assert await left(fleet) == await take(follower, 1), "that was another token of the same peer"
        await op.connection.request(REVOKE_REQUEST, text.encode(), timeout_s=DEADLINE_S)
        with pytest.raises(PermissionDenied, match="the token is revoked"):
            await take(follower, 1)
        with pytest.raises(PermissionDenied, match="the token is revoked"):
            await alice.append(JOIN, compose(intents.Join(), subject=JOIN, source="/test"))


async def test_an_expired_token_ends_it(closed: Closed) -> None:
    text = closed.tokens.mint(Grants(rooms=["lobby"], peer="alice"), life_s=2, now=int(time.time()))
    async with participant(closed, text) as alice, alice.follow(*PATTERNS) as follower:
        with pytest.raises(PermissionDenied, match="expired"):
            await take(follower, 1)


async def test_a_token_that_is_refused_for_long_ends_it(closed: Closed) -> None:
    text = closed.mint()
    async with participant(closed, text, refused_for_s=0.3) as alice, alice.follow(*PATTERNS) as follower:
        async with closed.role("auth") as auth:  # revoked while nobody can be told
            await store_revocation(auth.connection, closed.tokens.verify(text, now=int(time.time())).id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await alice.connection.reconnect()
        with pytest.raises(PermissionDenied, match="refuses"):
            await take(follower, 1)


async def test_a_join_ends_at_once_when_the_token_is_revoked(closed: Closed) -> None:
    text = closed.mint()
    async with connect_client(closed.server.url, token=text) as client:
        joining = asyncio.create_task(client.join().__aenter__())
        async with closed.role("operator") as operator:
            async with asyncio.timeout(DEADLINE_S):
                while await operator.last(JOIN) is None:  # noqa: ASYNC110 - the log tells nobody
                    await asyncio.sleep(0.01)  # the last entry is asked for again; the deadline ends the loop
            await operator.connection.request(REVOKE_REQUEST, text.encode(), timeout_s=DEADLINE_S)
        with pytest.raises(PermissionDenied, match="the token is revoked"):
            await joining


async def test_a_client_without_the_grant_roster_is_refused_at_once(closed: Closed) -> None:
    async with connect_client(closed.server.url, token=closed.mint(roster=False)) as client:
        with pytest.raises(PermissionDenied):
            async with client.join():
                pass
