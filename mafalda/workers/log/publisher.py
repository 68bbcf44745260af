"""How the agent speaks: facts into the log until they are in it, secrets to inboxes, questions to other agents.

What does not belong here: what is said.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import structlog

from mafalda.bus.compose import compose
from mafalda.bus.protocol import Bus
from mafalda.contract import subjects
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.payload import Payload
from mafalda.errors import BusUnavailable, MalformedMessage

A = TypeVar("A", bound=Payload)

_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
log = structlog.get_logger("mafalda.workers")


class Voice:
    """Speaks for one server."""

    def __init__(self, bus: Bus, server: str) -> None:
        self._bus = bus
        self._source = f"/mafalda/agent/{server}"

    async def say(self, payload: Payload, subject: str, *, cause: Message | None = None, id: str | None = None) -> int:
        """Append to the log, however long it takes: what happened, happened. Returns its sequence.

        Raises:
            PermissionDenied: This agent's credential may not say it.
            MessageTooLarge: Nobody would read it.
        """
        message = compose(payload, subject=subject, source=self._source, cause=cause, id=id)
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                return (await self._bus.append(subject, message)).seq
            except BusUnavailable as error:
                log.warning("log unavailable", action="append_retried", subject=subject, reason=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LAST_RETRY_S)

    async def whisper(self, payload: Payload, inbox: str, *, cause: Message) -> None:
        """Tell one asker, outside the log."""
        message = compose(payload, subject=inbox, source=self._source, cause=cause)
        await self._bus.publish(inbox, message)

    async def report(self, payload: Payload, subject: str) -> None:
        """Publish outside the log; once, and nobody minds if it is lost."""
        await self._bus.publish(subject, compose(payload, subject=subject, source=self._source))

    async def ask(
        self, server: str, request: Payload, answer: type[A], *, timeout_s: float, cause: Message | None = None
    ) -> A:
        """Ask another agent.

        Raises:
            DeadlineExceeded: No answer in time, or there is no such agent.
            MafaldaError: Its refusal, as its own class.
        """
        subject = subjects.agent_request(server, request.action)
        message = compose(request, subject=subject, source=self._source, cause=cause)
        found = (await self._bus.request(subject, message, timeout_s=timeout_s)).data
        if not isinstance(found, answer):
            raise MalformedMessage("the other agent answers something else", type=found.type_name())
        return found

    def answer(self, payload: Payload, subject: str, cause: Message) -> Message:
        """The answer to a request or query."""
        return compose(payload, subject=subject, source=self._source, cause=cause)
