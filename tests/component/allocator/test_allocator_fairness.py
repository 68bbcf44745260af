"""A burst of joins in other rooms keeps nobody else out: counted in decisions, not in time."""

from __future__ import annotations

import asyncio

import pytest

from mafalda.bus.compose import compose
from mafalda.bus.log.append import message_headers
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


def decided_before(fleet: Fleet, room: str) -> int:
    """How many joins were decided before that of a room."""
    decided = [entry for entry in fleet.broker.entries if isinstance(payload_of(entry), PlacePeer | Rejected)]
    return next(index for index, entry in enumerate(decided) if f".{room}." in entry.subject)


@pytest.mark.timeout(120)
async def test_a_join_behind_a_burst_in_other_rooms_is_decided_among_the_first() -> None:
    async with open_fleet() as fleet:
        await fleet.agent("s1", 2)
        async with fleet.allocator():
            await fleet.pass_time(2)
            for number in range(BURST):
                join_at_once(fleet, f"burst-{number}", f"peer-{number}")
            join_at_once(fleet, "mine", "me")
            async with asyncio.timeout(100):
                await fleet.wait_for(
                    lambda entry: ".mine." in entry.subject and isinstance(payload_of(entry), PlacePeer | Rejected)
                )
        assert decided_before(fleet, "mine") < BURST / 5
