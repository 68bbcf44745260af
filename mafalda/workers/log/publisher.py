"""What one agent publishes: facts into the log, secrets to private inboxes, requests to other agents."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from mafalda.aio.retry import retrying
from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload
from mafalda.errors import BusUnavailable, LogFull, MalformedMessage

R = TypeVar("R", bound=Payload)

#: Between two appends of which each was tried for `append_timeout_s`. What happened during an outage waits no longer.
_LONGEST_WAIT_S = 0.5


class Publisher:
    """Composes and publishes messages whose source is one server's agent.

    ``append_error`` is the code of the error of the last append; ``None``: it was stored.
    """

    def __init__(self, bus: Bus, server: str) -> None:
        self._bus = bus
        self._source = f"/mafalda/agent/{server}"
        self.append_error: str | None = None

    async def append(
        self, payload: Payload, subject: str, *, cause: Message | None = None, id: str | None = None
    ) -> int:
        """Append to the log; tried again until the log takes it. Returns the entry's log sequence.

        Raises:
            PermissionDenied: This agent's credential may not publish on the subject.
            MessageTooLarge: The message is larger than a reader accepts.
        """
        message = compose(payload, subject=subject, source=self._source, cause=cause, id=id)
        with suppress(BusUnavailable, LogFull):  # as a rule once is enough, and the means to repeat cost more
            return await self._append(subject, message)
        async for attempt in retrying(
            BusUnavailable, LogFull, action="append_retried", longest_s=_LONGEST_WAIT_S, subject=subject
        ):
            with attempt:
                return await self._append(subject, message)
        raise AssertionError("retried until it succeeds")

    async def append_once(self, payload: Payload, subject: str) -> int:
        """Append what the next message replaces; never tried again. Returns the entry's log sequence.

        Raises:
            BusUnavailable: The log did not confirm it in time.
            LogFull: The log has no room.
        """
        return await self._append(subject, compose(payload, subject=subject, source=self._source))

    async def _append(self, subject: str, message: Message) -> int:
        try:
            seq = (await self._bus.append(subject, message)).seq
        except (BusUnavailable, LogFull) as error:
            self.append_error = error.code
            raise
        self.append_error = None
        return seq

    async def send_private(self, payload: Payload, inbox: str, *, cause: Message) -> None:
        """Publish to the private inbox that an intent named."""
        message = compose(payload, subject=inbox, source=self._source, cause=cause)
        await self._bus.publish(inbox, message)

    async def publish(self, payload: Payload, subject: str) -> None:
        """Publish outside the log, at most once: without NATS it is lost, with a warning in the agent's own log."""
        await self._bus.publish(subject, compose(payload, subject=subject, source=self._source))

    async def request(
        self, server: str, request: Payload, reply: type[R], *, timeout_s: float, cause: Message | None = None
    ) -> R:
        """Request something of another server's agent.

        Raises:
            DeadlineExceeded: No reply in time, or there is no such agent.
            MafaldaError: The agent refused; the error has the class of the refusal.
        """
        subject = subjects.agent_request(server, request.action)
        message = compose(request, subject=subject, source=self._source, cause=cause)
        found = (await self._bus.request(subject, message, timeout_s=timeout_s)).data
        if not isinstance(found, reply):
            raise MalformedMessage("the other agent replies with another type", type=found.type_name())
        return found

    def reply(self, payload: Payload, subject: str, cause: Message) -> Message:
        """Compose the reply to a request or query."""
        return compose(payload, subject=subject, source=self._source, cause=cause)
