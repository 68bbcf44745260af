"""The loudest of a room: measured by real workers, and flowing alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from mafalda.aio.tasks import open_tasks
from mafalda.bus.compose import compose
from mafalda.contract import subjects
from mafalda.contract.messages import intents, results
from mafalda.contract.messages.notices import AudioLevels, AudioLevelsWanted
from mafalda.contract.messages.payload import Place
from mafalda.contract.messages.subscriptions import ProducerSelector
from mafalda.media.rtp import RtpHeaderExtensionUri
from mafalda.mediasoup import DirectTransport, Producer, Router, create_worker
from mafalda.projection.state import ProducerState, RoomState
from mafalda.testing.memory_bus import MemoryBroker, MemoryBus
from mafalda.workers.config import AgentConfig, default_media_codecs
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.loudness.levels import AudioLevelExchange
from tests.component.workers.agent_world import Fleet
from tests.component.workers.test_agent_subscriptions import holds, joined

DEADLINE_S = 60


def paused(fleet: Fleet, peer: str) -> dict[str, bool]:
    """Whether each consumer of a peer is paused on its worker, by producer."""
    held = fleet.agents["s1"].sessions.by_key["lobby", peer].objects.consumers
    return {it.producer: it.consumer.paused for it in held.values()}


async def hear(fleet: Fleet, **levels: int) -> None:
    """Another server tells how loud its producers are."""
    subject = subjects.agent_notice("s1", AudioLevels.action)
    notice = AudioLevels(room="lobby", levels={f"{peer}-mic": level for peer, level in levels.items()})
    await fleet.bus.publish(subject, compose(notice, subject=subject, source="/test"))


async def test_only_the_loudest_flow_and_who_was_named(fleet: Fleet) -> None:
    await fleet.start("s1")
    (place,) = fleet.places("s1")
    for peer in ("alice", "bob", "carl"):
        client = await joined(fleet, peer, place)
        await client.produce(f"{peer}-mic", "send")
    dave = await joined(fleet, "dave", place)
    pinned = [ProducerSelector(), ProducerSelector(producer="carl-mic")]

    await dave.ask(intents.Subscribe(subscription="s", select=pinned, loudest=1), results.SubscribeResult)
    await fleet.until(holds(fleet, "dave", "carl-mic"), "who was named is received in silence too")

    await hear(fleet, alice=-30, bob=-50)
    await fleet.until(holds(fleet, "dave", "carl-mic", "alice-mic"), "the loudest is received")

    async def louder(peer: str, expected: dict[str, bool]) -> None:
        """Somebody becomes the loudest, after as many measurements as hysteresis takes."""
        async with asyncio.timeout(DEADLINE_S):
            while paused(fleet, "dave") != expected:
                await hear(fleet, **{"alice": -127, "bob": -127, peer: -20})
                await asyncio.sleep(0.1)

    await louder("bob", {"carl-mic": False, "alice-mic": True, "bob-mic": False})
    await louder("alice", {"carl-mic": False, "alice-mic": False, "bob-mic": True})
    muted = next(
        id
        for id, it in fleet.agents["s1"].sessions.by_key["lobby", "dave"].objects.consumers.items()
        if it.producer == "bob-mic"
    )
    await dave.ask(intents.ResumeConsumer(consumer=muted), results.Done)
    assert paused(fleet, "dave")["bob-mic"], "it is muted, whatever the peer wants"
    await dave.ask(intents.PauseConsumer(consumer=muted), results.Done)
    await louder("bob", {"carl-mic": False, "alice-mic": True, "bob-mic": True})
    await fleet.equals_the_log()


async def test_servers_that_want_levels_are_sent_them(fleet: Fleet) -> None:
    """An agent asks the servers of a room's producers, and answers such questions for a while."""
    await fleet.start("s1")
    await fleet.start("s2")
    (here,), (there,) = fleet.places("s1"), fleet.places("s2")
    alice, bob = await joined(fleet, "alice", here), await joined(fleet, "bob", there)
    await alice.produce("alice-mic", "send")
    async with fleet.bus.listen(subjects.agent_notice("s1", AudioLevelsWanted.action)) as asked:
        await bob.ask(intents.Subscribe(subscription="s", loudest=3), results.SubscribeResult)
        async with asyncio.timeout(DEADLINE_S):
            await anext(aiter(asked))


@dataclass
class Routers:
    """As the agent's, with one router."""

    router: Router

    def existing(self, room: str, worker: str) -> Router | None:
        return self.router


@pytest.mark.parametrize("packet_s", [0.02, 0.06])
async def test_workers_measure_what_they_receive(packet_s: float) -> None:
    changes: list[frozenset[str]] = []
    state = RoomState("lobby")
    async with create_worker() as worker, open_tasks() as tasks:
        router = await worker.create_router(media_codecs=list(default_media_codecs()), scope="~room")
        transport = await router.create_direct_transport()
        producers = {name: await _produce(transport, name, ssrc) for name, ssrc in (("loud", 1111), ("quiet", 2222))}
        for name in producers:
            place = Place(server="s1", worker="w1")
            state.producers[name] = ProducerState(name, name, "send", place, 1, False, "audio")
        levels = AudioLevelExchange(
            AgentConfig(server="s1"),
            tasks,
            Publisher(MemoryBus(MemoryBroker(), name="s1"), "s1"),
            Routers(router),  # type: ignore[arg-type]
            room=lambda _: state,
            changed=lambda _, changed: changes.append(changed),
        )
        levels.want("lobby", 1)
        sequence = 0
        async with asyncio.timeout(DEADLINE_S):
            while levels.loudest("lobby", 1) != {"loud"}:
                sequence += 1
                producers["loud"].send(_packet(1111, sequence, 20))
                producers["quiet"].send(_packet(2222, sequence, 55))
                await asyncio.sleep(packet_s)
            assert changes
            while levels.loudest("lobby", 1) != {"quiet"}:
                sequence += 1
                producers["loud"].send(_packet(1111, sequence, 127))
                producers["quiet"].send(_packet(2222, sequence, 25))
                await asyncio.sleep(packet_s)
        levels.unwant("lobby", 1)
        assert levels.loudest("lobby", 1) == frozenset()


async def test_a_producer_that_is_opened_again_is_measured_again() -> None:
    """Nothing was heard between its end and its next begin, so no measurement showed that it was gone."""
    state = RoomState("lobby")
    place = Place(server="s1", worker="w1")
    state.producers["mic"] = ProducerState("mic", "ana", "send", place, 1, False, "audio")
    async with create_worker() as worker, open_tasks() as tasks:
        router = await worker.create_router(media_codecs=list(default_media_codecs()), scope="~room")
        transport = await router.create_direct_transport()
        levels = AudioLevelExchange(
            AgentConfig(server="s1"),
            tasks,
            Publisher(MemoryBus(MemoryBroker(), name="s1"), "s1"),
            Routers(router),  # type: ignore[arg-type]
            room=lambda _: state,
            changed=lambda _, __: None,
        )
        for ssrc in (1111, 2222):
            producer = await _produce(transport, "mic", ssrc)
            levels.producer_opened("lobby", "mic")
            levels.want("lobby", 1)
            sequence = 0
            async with asyncio.timeout(DEADLINE_S):
                while not levels.loudest("lobby", 1):
                    sequence += 1
                    producer.send(_packet(ssrc, sequence, 20))
                    await asyncio.sleep(0.02)
            levels.unwant("lobby", 1)
            await producer.close()


async def _produce(transport: DirectTransport, name: str, ssrc: int) -> Producer:
    return await transport.produce(
        id=name,
        kind="audio",
        rtp_parameters={
            "mid": name,
            "codecs": [{"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2}],
            "headerExtensions": [{"uri": RtpHeaderExtensionUri.SSRC_AUDIO_LEVEL, "id": 10}],
            "encodings": [{"ssrc": ssrc}],
            "rtcp": {"cname": name},
        },
    )


def _packet(ssrc: int, sequence: int, level: int) -> bytes:
    """An Opus packet of 20 ms with its audio level (RFC 6464): 0 is the loudest, 127 silence."""
    header = bytes([0x90, 100]) + sequence.to_bytes(2) + (sequence * 960).to_bytes(4) + ssrc.to_bytes(4)
    extension = bytes([0xBE, 0xDE, 0, 1, 0xA0, 0x80 | level, 0, 0])
    return header + extension + bytes(40)
