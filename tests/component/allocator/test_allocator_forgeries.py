"""Messages in the name of a server's other incarnation change nothing, and are reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from mafalda.contract.messages import commands, events
from tests.component.allocator.allocator_fleet import Fleet, open_fleet

OTHER = {"server": "s1", "incarnation": "forged"}
FORGED: list[events.Event] = [
    events.ServerStopped.model_validate(OTHER),
    events.ServerLost.model_validate(OTHER),
    events.ServerDraining.model_validate({**OTHER, "draining": True}),
    events.WorkerStarted.model_validate({**OTHER, "worker": {"worker": "ghost", "pid": 1, "slot": 9}}),
    events.WorkerDied.model_validate({**OTHER, "worker": "s1-0"}),
]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with open_fleet() as fleet:
        yield fleet


def warnings(logged: list[Any]) -> list[Any]:
    return [line for line in logged if line["action"] == "foreign_incarnation"]


@pytest.mark.parametrize("forged", FORGED, ids=lambda it: it.action)
async def test_an_event_of_another_incarnation_has_no_effect_and_is_reported(
    fleet: Fleet, forged: events.Event
) -> None:
    agent = await fleet.agent("s1", 1)
    with structlog.testing.capture_logs() as logged:
        async with fleet.allocator() as counters:
            await agent.server_event(forged)
            await agent.server_event(forged)
            await fleet.pass_time(1)
            await fleet.join("lobby", "alice")
            await fleet.pass_time(1)
            assert counters["foreign-event"] == 2
    [placed] = fleet.payloads(commands.PlacePeer)
    assert (placed.server, placed.worker) == ("s1", agent.workers[0])
    [warning] = warnings(logged)
    assert (warning["log_level"], warning["server_id"], warning["incarnation"]) == ("warning", "s1", "forged")
    assert (warning["source"], warning["message_type"]) == ("/test/s1", forged.type_name())


async def test_loads_of_another_incarnation_are_reported_once_in_a_while(fleet: Fleet) -> None:
    agent = await fleet.agent("s1", 1)
    own = agent.incarnation
    with structlog.testing.capture_logs() as logged:
        async with fleet.allocator() as counters:
            agent.incarnation = "i2"
            await agent.report()  # of an agent that starts again: its ``ServerStarted`` is about to come
            await fleet.pass_time(1, reporting=False)
            assert warnings(logged) == []
            for _ in range(100):
                await agent.report()
            agent.incarnation = own
            await agent.report()
            await fleet.pass_time(1, reporting=False)
            assert counters["stale-load"] == 101
    [warning] = warnings(logged)
    assert (warning["server_id"], warning["incarnation"]) == ("s1", "i2")
