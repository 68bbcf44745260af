"""The results of a peer's intents, published: in the log, to the room, and to the sender's inbox alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from mafalda.contract import subjects
from mafalda.contract.channels import membership_subject
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.events import MEMBERSHIP_EVENTS, Event
from mafalda.contract.messages.intents import Intent
from mafalda.contract.messages.results import Done, Rejected, Result
from mafalda.errors import MafaldaError
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
        try:
            outcome = await work()
            if outcome:
                await self.publish(entry, outcome)
            return None
        except MafaldaError as error:
            refusal = as_contract_error(error)
        except Exception:
            log.exception("internal error", action="internal_error", **self._placement.log_fields, stream_seq=entry.seq)
            refusal = MafaldaError("internal error", correlation_id=entry.message.correlation)
        await self.reject(entry, refusal)
        return refusal

    async def publish(self, entry: Entry, outcome: Outcome) -> None:
        """Append an outcome's result and events, and send its private result."""
        message = entry.message
        if not outcome.private_last:
            await self._send_private(entry, outcome)
        appends = [self.append_room_event(event, message, number) for number, event in enumerate(outcome.events)]
        await asyncio.gather(*appends, self.append_result(outcome.result, message.data.action, message))
        if outcome.private_last:
            await self._send_private(entry, outcome)

    async def reject(self, entry: Entry, error: MafaldaError) -> None:
        """Append that an intent was not done, and why."""
        action = entry.message.data.action
        count_rejection("agent", action, error.code)
        await self.append_result(Rejected(intent=action, error=ErrorInfo.of(error)), action, entry.message)

    async def _send_private(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.private is not None and entry.reply is not None:
            await self._publisher.send_private(outcome.private, entry.reply, cause=entry.message)

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
