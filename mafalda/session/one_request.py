"""A single intent of somebody who follows nothing else: it is appended, and its result is awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from mafalda.aio.tasks import background, open_tasks
from mafalda.bus.protocol import Bus, Delivery
from mafalda.contract import subjects
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.payload import Payload
from mafalda.contract.reading import read_message
from mafalda.errors import BadInput
from mafalda.session.requests import NothingPrivate, RequestClient, RequestTimes

P = TypeVar("P", bound=Payload)


async def request_once(
    bus: Bus, room: str, peer: str, intent: Intent, expected: type[P], *, source: str, times: RequestTimes | None = None
) -> P:
    """Append an intent whose result has nothing private, and await that result.

    Args:
        bus: Connected.
        room: The room.
        peer: The peer whose intent it is; its results are followed meanwhile.
        intent: What it asks for.
        expected: The class of its result.
        source: The CloudEvents source of the message.
        times: Limits; ``None``: the defaults.

    Raises:
        MafaldaError: As of ``RequestClient.request``.
    """
    async with open_tasks() as tasks, bus.follow(subjects.result(room, peer, intent.action)) as results:
        client = RequestClient(bus, tasks, None, source, NothingPrivate(), times or RequestTimes())
        async with background(_take(client, results), f"results of {peer}"):
            return await client.request(room, peer, intent, expected)


async def _take(client: RequestClient, results: AsyncIterator[Delivery]) -> None:
    async for delivery in results:
        try:
            _, message = read_message(delivery.subject, delivery.data)
        except BadInput:
            continue  # of a newer version, so none of an intent of this one
        client.take_stored(message)
