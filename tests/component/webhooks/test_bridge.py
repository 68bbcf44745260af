"""Room events reach a real HTTP endpoint signed, in order for each room, at least once, or become dead letters."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mafalda.aio.tasks import background
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract import subjects
from mafalda.contract.messages.events import PeerJoined, PeerLeft
from mafalda.errors import InvalidParameters, LogTruncated, UnknownType
from mafalda.feed import Cursor, CursorMoved, Selection
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.webhooks.bridge import Bridge
from mafalda.webhooks.config import WebhookConfig
from mafalda.webhooks.dead_letters import DeadLetters
from mafalda.webhooks.endpoint import open_endpoint
from mafalda.webhooks.errors import EndpointGone

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
DEADLINE_S = 60
ALL = Selection()
LEFT = subjects.room_event("lobby", "peer-left")


class Receiver:
    """An endpoint. ``answer`` decides the status of each request from its event."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[tuple[str, str]] = []  # room and peer
        self.attempts: Counter[str] = Counter()
        self.answer: Callable[[str, str], int] = lambda room, peer: 204
        self._more = asyncio.Event()

    async def post(self, request: Request) -> Response:
        body = await request.body()
        event = Webhook(SECRET).verify(body, dict(request.headers))
        assert request.headers["content-type"].startswith("application/cloudevents+json")
        assert request.headers["webhook-id"] == event["id"]
        room, peer = event["subject"].split(".")[2], event["data"]["peer"]
        self.attempts[peer] += 1
        status = self.answer(room, peer)
        if 200 <= status < 300:
            self.taken.append((room, peer))
        self._more.set()
        return Response(status_code=status)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._more.clear()
                await self._more.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = Starlette(routes=[Route("/events", made.post, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with background(server.serve(), "receiver") as serving:
        async with asyncio.timeout(DEADLINE_S):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
        made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/events"
        yield made
        server.should_exit = True
        await asyncio.wait((serving,))


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def bus(broker: MemoryBroker) -> MemoryBus:
    return MemoryBus(broker)


async def join(bus: Bus, room: str, peer: str) -> int:
    event = PeerJoined(peer=peer, server="s1", worker="w1", generation=1)
    subject = subjects.room_event(room, event.action)
    return (await bus.append(subject, compose(event, subject=subject, source="/test"))).seq


def config(receiver: Receiver, **fields: Any) -> WebhookConfig:
    quick = {"first_retry_s": 0.01, "longest_retry_s": 0.05, "save_interval_s": 0.01}
    return WebhookConfig.model_validate({"url": receiver.url, "secret": SecretStr(SECRET), **quick, **fields})


@asynccontextmanager
async def bridged(bus: Bus, config: WebhookConfig, selection: Selection = ALL) -> AsyncIterator[asyncio.Task[None]]:
    """A bridge beside the block, from the log's beginning or where the last one was."""
    async with open_endpoint(config) as endpoint:
        bridge = Bridge(endpoint, await Cursor.open(bus, "hooks", begin_seq=0), DeadLetters(bus, "hooks"), config)
        ready = asyncio.Event()
        task = asyncio.create_task(bridge.run(bus, selection, ready=ready), name="bridge")
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.wait((task, asyncio.create_task(ready.wait())), return_when=asyncio.FIRST_COMPLETED)
            yield task
        finally:
            task.cancel()
            await asyncio.wait((task,))


async def saved(bus: Bus, seq: int) -> None:
    """Return when the cursor is there."""
    async with asyncio.timeout(DEADLINE_S):
        while (found := await bus.snapshots.get("cursor.hooks")) is None or json.loads(found.data)["seq"] != seq:  # noqa: ASYNC110 - saved at intervals
            await asyncio.sleep(0.01)


async def test_events_arrive_signed_and_a_later_bridge_goes_on_behind_them(bus: MemoryBus, receiver: Receiver) -> None:
    await join(bus, "lobby", "alice")
    async with bridged(bus, config(receiver)):
        last = await join(bus, "lobby", "bob")
        await receiver.until(lambda: len(receiver.taken) == 2)
        await saved(bus, last)
    await join(bus, "lobby", "carol")
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: len(receiver.taken) == 3)
    assert receiver.taken == [("lobby", "alice"), ("lobby", "bob"), ("lobby", "carol")]


async def test_a_room_s_events_stay_in_order_while_one_is_retried_and_other_rooms_go_on(
    bus: MemoryBus, receiver: Receiver
) -> None:
    held = True
    receiver.answer = lambda room, peer: 503 if peer == "a1" and held else 200
    for room, peer in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")):
        await join(bus, room, peer)
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: ("b", "b2") in receiver.taken and receiver.attempts["a1"] >= 3)
        assert receiver.taken == [("b", "b1"), ("b", "b2")]
        held = False
        await receiver.until(lambda: len(receiver.taken) == 5)
        await saved(bus, 5)
    by_room: dict[str, list[str]] = defaultdict(list)
    for room, peer in receiver.taken:
        by_room[room].append(peer)
    assert by_room == {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"]}


async def test_what_is_given_up_is_a_dead_letter_and_the_room_goes_on(bus: MemoryBus, receiver: Receiver) -> None:
    receiver.answer = lambda room, peer: 500 if peer == "alice" else 200
    first = await join(bus, "lobby", "alice")
    await join(bus, "lobby", "bob")
    async with bridged(bus, config(receiver, give_up_after_s=0.1)):
        await receiver.until(lambda: receiver.taken == [("lobby", "bob")])
        await saved(bus, 2)
    (letter,) = await DeadLetters(bus, "hooks").all()
    assert (letter.seq, letter.room, letter.event) == (first, "lobby", "peer-joined")
    assert "500" in letter.reason
    await DeadLetters(bus, "hooks").remove(letter)
    assert await DeadLetters(bus, "hooks").all() == []


async def test_an_unfinished_event_is_delivered_by_the_next_bridge(bus: MemoryBus, receiver: Receiver) -> None:
    receiver.answer = lambda room, peer: 503 if room == "a" else 200
    for room, peer in (("a", "a1"), ("b", "b1")):
        await join(bus, room, peer)
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: ("b", "b1") in receiver.taken and receiver.attempts["a1"] > 1)
    receiver.answer = lambda room, peer: 200
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: ("a", "a1") in receiver.taken)
        await saved(bus, 2)


async def test_only_selected_events_are_delivered(bus: MemoryBus, receiver: Receiver) -> None:
    await join(bus, "lobby", "alice")
    left = compose(PeerLeft(peer="alice", generation=1, reason="left"), subject=LEFT, source="/test")
    await bus.append(LEFT, left)
    await join(bus, "other", "bob")
    async with bridged(bus, config(receiver), Selection("lobby", ("peer-left",))):
        await saved(bus, 3)
    assert receiver.taken == [("lobby", "alice")]
    assert receiver.attempts["alice"] == 1
    with pytest.raises(UnknownType, match="no such event"):
        Selection(events=("peer-vanished",)).patterns()


async def test_an_endpoint_that_is_gone_ends_the_bridge(bus: MemoryBus, receiver: Receiver) -> None:
    receiver.answer = lambda room, peer: 410
    await join(bus, "lobby", "alice")
    async with bridged(bus, config(receiver)) as bridge, asyncio.timeout(DEADLINE_S):
        with pytest.raises(EndpointGone):
            await bridge
    receiver.answer = lambda room, peer: 200
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: receiver.taken == [("lobby", "alice")])


async def test_a_second_bridge_with_the_same_cursor_ends_the_first(bus: MemoryBus, receiver: Receiver) -> None:
    async with bridged(bus, config(receiver)) as first, bridged(bus, config(receiver)):
        await join(bus, "lobby", "alice")
        with pytest.raises(CursorMoved):
            async with asyncio.timeout(DEADLINE_S):
                await first


async def test_events_that_the_log_has_discarded_are_an_error(
    bus: MemoryBus, broker: MemoryBroker, receiver: Receiver
) -> None:
    await join(bus, "lobby", "alice")
    async with bridged(bus, config(receiver)):
        await saved(bus, 1)
    for peer in ("bob", "carol"):
        await join(bus, "lobby", peer)
    broker.purge(before_seq=3)
    async with bridged(bus, config(receiver)) as bridge, asyncio.timeout(DEADLINE_S):
        with pytest.raises(LogTruncated):
            await bridge


async def test_no_event_is_lost_while_the_endpoint_is_unreachable(bus: MemoryBus, receiver: Receiver) -> None:
    url, receiver.url = receiver.url, "http://127.0.0.1:9/events"
    await join(bus, "lobby", "alice")
    async with bridged(bus, config(receiver, timeout_s=1)) as bridge:
        assert not bridge.done()
    receiver.url = url
    async with bridged(bus, config(receiver)):
        await receiver.until(lambda: receiver.taken == [("lobby", "alice")])


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_" + "!" * 40, SECRET.removeprefix("whsec_")])
async def test_a_secret_that_is_none_is_refused_without_showing_it(receiver: Receiver, secret: str) -> None:
    wrong = config(receiver).model_copy(update={"secret": SecretStr(secret)})
    with pytest.raises(InvalidParameters) as caught:
        async with open_endpoint(wrong):
            pass
    assert "short" not in str(caught.value)


async def test_a_move_whose_acknowledgement_was_lost_is_the_reader_s_own(bus: MemoryBus) -> None:
    cursor = await Cursor.open(bus, "hooks", begin_seq=0)
    stored = await bus.snapshots.get("cursor.hooks")
    assert stored is not None
    await bus.snapshots.put("cursor.hooks", stored.data)  # as a move of which the reader has not heard
    await cursor.save(7)
    other = await Cursor.open(bus, "hooks", begin_seq=0)
    assert other.seq == 7
    with pytest.raises(CursorMoved):
        await cursor.save(8)
