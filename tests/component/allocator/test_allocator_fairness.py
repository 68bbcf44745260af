"""A burst of joins in other rooms keeps nobody else out: counted in decisions, not in time."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.bus.compose import compose
from mafalda.bus.log.append import message_headers
from mafalda.bus.protocol import Delivery
from mafalda.contract import subjects
from mafalda.contract.messages import intents
from mafalda.contract.messages.commands import PlacePeer
from mafalda.contract.messages.envelope import encode
from mafalda.contract.messages.results import Rejected
from tests.component.allocator.allocator_fleet import Fleet, open_fleet, payload_of

BURST = 2_000


def join_at_once(fleet: Fleet, room: str, peer: str) -> None:
    """Append a join without letting anybody else run."""
    subject = subjects.intent(room, peer, "join")
    message = compose(intents.Join(), subject=subject, source=f"/test/{peer}")
    fleet.broker.store(subject, encode(message), message_headers(message))


def is_decision(entry: Delivery) -> bool:
    """Whether an entry decides a join."""
    return isinstance(payload_of(entry), PlacePeer | Rejected)


def decided_before(fleet: Fleet, room: str) -> int:
    """How many joins were decided between the join of a room and its decision."""
    asked = next(entry.seq for entry in fleet.broker.entries if entry.subject.startswith(f"mafalda.room.{room}."))
    decided = [entry for entry in fleet.broker.entries[asked:] if is_decision(entry)]
    return next(index for index, entry in enumerate(decided) if f".{room}." in entry.subject)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rooms", [BURST, 100], ids=["each in its own room", "20 in each room"])
@pytest.mark.parametrize("already_decided", [0, 300])
async def test_a_join_behind_a_burst_in_other_rooms_is_decided_among_the_first(
    rooms: int, already_decided: int
) -> None:
    """Whether it comes right behind the burst, or while rooms of it are served for the fourth time."""
    async with open_fleet() as fleet:
        await fleet.agent("s1", 2)
        async with fleet.allocator(max_in_flight=8):
            await fleet.pass_time(2)
            for number in range(BURST):
                join_at_once(fleet, f"burst-{number % rooms}", f"peer-{number}")
            async with asyncio.timeout(100):
                seq = BURST
                for _ in range(already_decided):
                    seq = (await fleet.wait_for(is_decision, after_seq=seq)).seq
                join_at_once(fleet, "mine", "me")
                await fleet.wait_for(lambda entry: ".mine." in entry.subject and is_decision(entry))
        assert decided_before(fleet, "mine") < 100
