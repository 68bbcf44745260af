"""Every intent gets a result or a refusal, however often the worker under its peer is killed.

The client is what docs/protocol.md asks for and no more: nats-py, a participant's token, each message published once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from mafalda.auth.tokens import TokenKeys
from mafalda.bus.config import BusConfig, read_seed
from mafalda.bus.nats.bus import NatsBus
from mafalda.bus.nats.bus import connect as connect_bus
from mafalda.contract.grants import Grants
from mafalda.mediasoup.ortc import generate_router_rtp_capabilities
from mafalda.monitor.replay import current_state
from mafalda.testing.media import DTLS, OPUS_PARAMETERS
from mafalda.workers.config import default_media_codecs
from tests.e2e.conftest import Up, closed_up
from tests.e2e.failures.scene import record

#: How often the worker is killed. Each takes about two seconds.
KILLS = int(os.environ.get("MAFALDA_CHAOS_KILLS", "20"))
#: So many that one which is killed has lived for long enough to be started again at once.
WORKERS_PER_SERVER = 8
#: Seconds between two intents of the client: half of what a peer may send.
PACE_S = 0.01
#: Seconds in which everything is answered, after the last kill, and a new place is given, after any.
DEADLINE_S = 60.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 30 * KILLS)]


@dataclass
class PlainClient:
    """A peer that publishes intents and notes their answers."""

    nats: Client
    room: str
    peer: str
    generation: int = 0
    worker: str = ""
    sent: dict[str, str] = field(default_factory=dict)  # action by id
    outcomes: dict[str, str] = field(default_factory=dict)  # "done" or the error's code, by the intent's id
    done_here: Counter[str] = field(default_factory=Counter)  # at the present place, by action
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def prefix(self) -> str:
        return f"mafalda.room.{self.room}.peer.{self.peer}"

    @property
    def unanswered(self) -> list[str]:
        return [f"{action} {id}" for id, action in self.sent.items() if id not in self.outcomes]

    async def take_result(self, delivery: Msg) -> None:
        message = json.loads(delivery.data)
        data, cause = message["data"], message["causationid"]
        error = data.get("error", {}).get("code")
        if message["type"].startswith("mafalda.result.join."):
            self.generation, self.worker = data["generation"], data["worker"]
            self.done_here.clear()
            cause = message["correlationid"]
        self.outcomes[cause] = error or "done"
        if error is None and (action := self.sent.get(cause)):
            self.done_here[action] += 1
        self.changed.set()

    async def publish(self, action: str, **data: Any) -> None:
        """Publish an intent, once, without waiting for anything."""
        id = uuid4().hex
        subject = f"{self.prefix}.intent.{action}"
        message = {
            "specversion": "1.0",
            "id": id,
            "source": f"/client/{self.peer}",
            "type": f"mafalda.intent.{action}.v1",
            "subject": subject,
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": data,
        }
        self.sent[id] = action
        headers = {"Nats-Msg-Id": id, "Mafalda-Reply-To": f"_INBOX.{self.room}.{self.peer}.answers"}
        await self.nats.publish(subject, json.dumps(message).encode(), headers=headers)
        await asyncio.sleep(PACE_S)

    async def until(self, holds: Any, what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"never: {what}; unanswered: {self.unanswered[:20]}") from None

    async def work(self) -> None:
        """Open a producer, receive it, pause and resume that, and close all, again and again."""
        codecs = generate_router_rtp_capabilities(default_media_codecs()).to_json_dict()
        rtp, dtls = OPUS_PARAMETERS.to_json_dict(), DTLS.to_json_dict()
        number = 0
        while True:
            number += 1
            transport, producer, consumer = (f"{what}-{number}" for what in ("transport", "producer", "consumer"))
            await self.publish("create-transport", transport=transport)
            await self.publish("connect-transport", transport=transport, dtlsParameters=dtls)
            await self.publish("produce", producer=producer, transport=transport, mediaKind="audio", rtpParameters=rtp)
            await self.publish(
                "consume", consumer=consumer, transport=transport, producer=producer, rtpCapabilities=codecs
            )
            for _ in range(10):
                await self.publish("resume-consumer", consumer=consumer)
                await self.publish("pause-consumer", consumer=consumer)
            await self.publish("close-producer", producer=producer)
            await self.publish("close-transport", transport=transport)


@asynccontextmanager
async def plain_client(running: Up, room: str, peer: str) -> AsyncIterator[PlainClient]:
    """A peer with a token for its room, before it has joined."""
    assert running.keys is not None
    token = TokenKeys.read(running.keys / "tokens.json").mint(
        Grants(rooms=[room], peer=peer), life_s=24 * 3600, now=int(time.time())
    )
    connection = await nats.connect(running.nats_url, token=token, inbox_prefix=f"_INBOX.{room}.{peer}")
    try:
        client = PlainClient(connection, room, peer)
        await connection.subscribe(f"live.{client.prefix}.result.*", cb=client.take_result)
        await connection.flush()
        yield client
    finally:
        await connection.close()


async def kill_worker(observer: NatsBus, worker: str) -> None:
    state = await current_state(observer)
    for server in state.servers.values():
        if worker in server.workers:
            with suppress(ProcessLookupError):
                os.kill(server.workers[worker].pid, signal.SIGKILL)


async def test_every_intent_is_answered_however_often_the_worker_is_killed(tmp_path: Path) -> None:
    dice = random.Random(12)
    async with AsyncExitStack() as stack:
        fleet = ("--servers", "2", "--workers", str(WORKERS_PER_SERVER), "--policy", "spread", "--no-page")
        running = stack.enter_context(closed_up(tmp_path, *fleet))
        seed = read_seed(Path(running.nkey("operator")["MAFALDA_NKEY_FILE"]))
        config = BusConfig(servers=(running.nats_url,), name="observer", nkey_seed=seed)
        observer = await stack.enter_async_context(connect_bus(config))
        client = await stack.enter_async_context(plain_client(running, "lobby", "alice"))
        await client.publish("join")
        await client.until(lambda: client.generation == 1, "the first place")
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(client.work(), name="work")
            for kill in range(KILLS):
                await client.until(
                    lambda: client.done_here["pause-consumer"] >= 3, f"media at the place before kill {kill + 1}"
                )
                await asyncio.sleep(dice.random() * 0.2)  # the moment of the kill, as chance has it
                killed = client.generation
                await kill_worker(observer, client.worker)
                await client.until(lambda least=killed: client.generation > least, f"a place after kill {kill + 1}")
            await client.until(lambda: client.done_here["close-transport"] >= 1, "media at the last place")
            work.cancel()
        await client.until(lambda: not client.unanswered, "an answer to every intent")
        outcomes = Counter(client.outcomes[id] for id in client.sent)
        record("every intent answered", killed=KILLS, intents=len(client.sent), **outcomes)
        assert outcomes["done"] > KILLS
        assert set(outcomes) <= {"done", "worker-died", "not-found", "not-joined", "stale-generation"}
