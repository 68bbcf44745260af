"""Intents of one peer that wait together: done in order, and answered together where they came in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from mafalda.contract.messages.intents import Consume
from mafalda.errors import MafaldaError
from mafalda.workers.core.instructions import Entry
from mafalda.workers.peers.session.responses import Outcome, PeerResponder

#: Does one intent. Its outcome or error is not published yet; ``None``: it is answered later.
Attempt = Callable[[Entry], Awaitable[Outcome | MafaldaError | None]]
_Answered = list[tuple[Entry, Outcome | MafaldaError]]


class IntentRun:
    """Does intents in their order.

    Consumes that follow one another are sent to the worker without waiting for the answers in between: they change
    nothing for each other. All results of a batch are one message, after the last intent of the batch.

    Args:
        responder: Publishes outcomes.
        attempt: Does one intent.
        is_over: Whether no further intent may be done.
        reject: Called with each intent that is not done, since it is over.
        free_consumers: How many consumers more the peer may have; ``None``: any number.
    """

    def __init__(
        self,
        responder: PeerResponder,
        attempt: Attempt,
        is_over: Callable[[], bool],
        reject: Callable[[Entry], None],
        free_consumers: Callable[[], int | None],
    ) -> None:
        self._responder = responder
        self._attempt = attempt
        self._is_over = is_over
        self._reject = reject
        self._free_consumers = free_consumers

    async def do(self, entries: Sequence[Entry]) -> None:
        """Do the intents, and publish what comes of them."""
        answered: _Answered = []
        for group in consume_groups(entries):
            if answered and answered[0][0].batch is not group[0].batch:
                await self._responder.publish_batch(answered)
                answered = []
            if self._is_over():
                for entry in group:
                    self._reject(entry)
                continue
            outcomes = await self._attempt_all(group)
            if group[0].batch is not None:
                await self._responder.append_events(outcomes)
                answered += outcomes
            else:
                await asyncio.gather(*(self._publish(entry, outcome) for entry, outcome in outcomes))
        if answered:
            await self._responder.publish_batch(answered)

    async def _attempt_all(self, group: list[Entry]) -> _Answered:
        free = self._free_consumers()
        if len(group) == 1 or (free is not None and free < len(group)):  # each must count for the next
            outcomes = [await self._attempt(entry) for entry in group]
        else:
            outcomes = await asyncio.gather(*(self._attempt(entry) for entry in group))
        return [(entry, it) for entry, it in zip(group, outcomes, strict=True) if it is not None]

    async def _publish(self, entry: Entry, outcome: Outcome | MafaldaError) -> None:
        if isinstance(outcome, MafaldaError):
            await self._responder.reject(entry, outcome)
        else:
            await self._responder.publish(entry, outcome)


def consume_groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The intents in their order: consumes of different ids that follow one another together, others by themselves.

    Args:
        entries: The intents. Those of one batch are never together with others.
    """
    group: list[Entry] = []
    ids: set[str] = set()
    for entry in entries:
        intent = entry.message.data
        is_next = isinstance(intent, Consume) and intent.consumer not in ids and bool(ids)
        if group and not (is_next and entry.batch is group[0].batch):
            yield group
            group, ids = [], set()
        group.append(entry)
        if isinstance(intent, Consume) and entry.error is None:
            ids.add(intent.consumer)
    if group:
        yield group
