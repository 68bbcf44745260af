"""The results of a peer's intents, published: in the log, to the room, and to the sender's inbox alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from mafalda.contract import subjects
from mafalda.contract.batches import batched_result
from mafalda.contract.channels import membership_subject
from mafalda.contract.messages.batches import BatchedResult
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import MEMBERSHIP_EVENTS, Event
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.results import Done, Rejected, Result, ResultBatch
from mafalda.errors import MafaldaError, MessageTooLarge
from mafalda.telemetry.metrics import count_rejection
from mafalda.workers.core.instructions import Entry
from mafalda.workers.errors import as_contract_error
from mafalda.workers.log.publisher import Publisher
from mafalda.workers.peers.session.placement import PeerPlacement

log = structlog.get_logger("mafalda.workers")


@dataclass(slots=True)
class Outcome:
    """The results of one intent.

    Args:
        result: Appended to the log for the sender.
        events: Appended to the log for everyone in the room.
        private: Sent to the inbox that the intent names, never stored; ``None``: nothing.
        private_last: Whether ``private`` is sent after the rest is in the log, because the sender may act on it only
            then; else before.
    """

    result: Result
    events: list[Event] = field(default_factory=list)
    private: Result | None = None
    private_last: bool = False


def done(placement: PeerPlacement, intent: Intent, target: str | None) -> Outcome:
    """The outcome of an intent whose result holds nothing but that it is done.

    Args:
        placement: Of the peer.
        intent: The intent.
        target: The id of the object that it was about.
    """
    return Outcome(Done(intent=intent.action, target=target, generation=placement.generation))


class PeerResponder:
    """Appends the events and results of one placement of a peer.

    Args:
        publisher: Appends to the log for this server, and sends to inboxes.
        placement: Which peer, and where.
    """

    def __init__(self, publisher: Publisher, placement: PeerPlacement) -> None:
        self._publisher = publisher
        self._placement = placement
        #: Whether the peer is of the audience now.
        self.audience = placement.audience

    # --- intents --------------------------------------------------------------------------------------

    async def attempt(self, entry: Entry, work: Callable[[], Awaitable[Outcome | None]]) -> MafaldaError | None:
        """Run ``work`` for an intent, then publish its outcome or its error.

        Args:
            entry: The intent.
            work: Returns ``None`` if the intent is answered later.

        Returns:
            The error with which the intent was rejected, if it was.
        """
        outcome = await self.outcome_of(entry, work)
        if isinstance(outcome, MafaldaError):
            await self.reject(entry, outcome)
            return outcome
        if outcome:
            await self.publish(entry, outcome)
        return None

    async def outcome_of(
        self, entry: Entry, work: Callable[[], Awaitable[Outcome | None]]
    ) -> Outcome | MafaldaError | None:
        """Run ``work`` for an intent: its outcome or its error, which is not published yet. Arguments as above."""
        try:
            return await work()
        except MafaldaError as error:
            return as_contract_error(error)
        except Exception:
            log.exception("internal error", action="internal_error", **self._placement.log_fields, stream_seq=entry.seq)
            return MafaldaError("internal error", correlation_id=entry.message.correlation)

    async def publish(self, entry: Entry, outcome: Outcome) -> None:
        """Append an outcome's result and events, and send its private result."""
        message = entry.message
        if not outcome.private_last:
            await self._send_private(entry, outcome)
        await asyncio.gather(
            *self._append_events(entry, outcome), self.append_result(outcome.result, message.data.action, message)
        )
        if outcome.private_last:
            await self._send_private(entry, outcome)

    def _append_events(self, entry: Entry, outcome: Outcome) -> list[Coroutine[Any, Any, None]]:
        return [self.append_room_event(event, entry.message, number) for number, event in enumerate(outcome.events)]

    async def reject(self, entry: Entry, error: MafaldaError) -> None:
        """Append that an intent was not done, and why."""
        await self.append_result(self._result(entry, error), entry.message.data.action, entry.message)

    async def _send_private(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.private is not None and entry.reply is not None:
            await self._publisher.send_private(outcome.private, entry.reply, cause=entry.message)

    # --- batches --------------------------------------------------------------------------------------

    async def append_events(self, answered: Sequence[tuple[Entry, Outcome | MafaldaError]]) -> None:
        """Append the events of intents of a batch, in order."""
        outcomes = ((entry, it) for entry, it in answered if isinstance(it, Outcome))
        await asyncio.gather(*(append for entry, it in outcomes for append in self._append_events(entry, it)))

    async def publish_batch(self, answered: Sequence[tuple[Entry, Outcome | MafaldaError]]) -> None:
        """Append the results of intents of one batch as one, and send what is private of them as one.

        Args:
            answered: The intents and their outcomes, whose events are appended already; at least one.
        """
        first, _ = answered[0]
        batch = first.batch or first.message
        private = [
            batched_result(entry.message, outcome.private)
            for entry, outcome in answered
            if isinstance(outcome, Outcome) and outcome.private is not None
        ]
        is_last = any(isinstance(outcome, Outcome) and outcome.private_last for _, outcome in answered)
        if not is_last:
            await self._send_private_batch(first, private)
        results = [batched_result(entry.message, self._result(entry, it)) for entry, it in answered]
        subject = subjects.result(self._placement.room, self._placement.peer, ResultBatch.action)
        id = self._placement.derived_id(batch, "result", first.message.id)
        try:
            await self._publisher.append(ResultBatch.model_construct(items=results), subject, cause=batch, id=id)
        except MessageTooLarge:  # then each for itself
            messages = ((entry.message, self._result(entry, it)) for entry, it in answered)
            await asyncio.gather(*(self.append_result(it, cause.data.action, cause) for cause, it in messages))
        if is_last:
            await self._send_private_batch(first, private)

    async def _send_private_batch(self, first: Entry, items: list[BatchedResult]) -> None:
        """Send results to the inbox that their batch names, in as few messages as can hold them."""
        if not items or first.reply is None or first.batch is None:
            return
        try:
            await self._publisher.send_private(ResultBatch.model_construct(items=items), first.reply, cause=first.batch)
        except MessageTooLarge:
            half = len(items) // 2
            if half:
                await self._send_private_batch(first, items[:half])
                await self._send_private_batch(first, items[half:])

    def _result(self, entry: Entry, outcome: Outcome | MafaldaError) -> Result:
        if isinstance(outcome, Outcome):
            return outcome.result
        action = entry.message.data.action
        count_rejection("agent", action, outcome.code)
        return Rejected(intent=action, error=ErrorInfo.of(outcome))

    # --- appending ------------------------------------------------------------------------------------

    async def append_result(self, result: Result, action: str, cause: Message) -> int:
        """Append the result of one of the peer's intents; returns its log sequence.

        Args:
            result: The result.
            action: The intent's.
            cause: The message that the result follows from. It has one result, so the id derives from it.
        """
        subject = subjects.result(self._placement.room, self._placement.peer, action)
        id = self._placement.derived_id(cause, "result")
        return await self._publisher.append(result, subject, cause=cause, id=id)

    async def append_room_event(self, event: Event, cause: Message | None = None, *id_parts: int) -> None:
        """Append an event for everyone in the room; the membership of a peer of the audience for this peer alone.

        Args:
            event: The event.
            cause: The message that the event follows from; its id then derives from it.
            id_parts: Distinguish the event from others of the same cause and kind.
        """
        id = self._placement.derived_id(cause, event.action, *id_parts) if cause else None
        await self._publisher.append(event, self._subject(event), cause=cause, id=id)

    def _subject(self, event: Event) -> str:
        placement = self._placement
        if isinstance(event, MEMBERSHIP_EVENTS):
            return membership_subject(placement.room, event, placement.peer, audience=self.audience)
        return subjects.room_event(placement.room, event.action)

    async def append_peer_event(self, event: Event) -> None:
        """Append an event for this peer alone: something happened to an object of its own."""
        subject = subjects.peer_event(self._placement.room, self._placement.peer, event.action)
        await self._publisher.append(event, subject)
