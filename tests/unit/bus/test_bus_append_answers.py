"""What each answer of JetStream to an append means: again, stored, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from mafalda.bus.compose import compose
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.log.append import append
from mafalda.bus.protocol import Appended, Expect
from mafalda.contract import subjects
from mafalda.contract.messages.error_info import ErrorInfo
from mafalda.contract.messages.results import Done
from mafalda.errors import BusUnavailable, Conflict, LogFull

SUBJECT = subjects.command("r", "s1", "place-peer")
AGGREGATE = subjects.room_commands("r")
STORED = {"stream": "MAFALDA_LOG", "seq": 7}
DUPLICATE = STORED | {"duplicate": True}


def refused(err_code: int, description: str = "", code: int = 400) -> dict[str, Any]:
    return {"error": {"code": code, "err_code": err_code, "description": description}}


IN_PROCESS = refused(10158, "duplicate message id is in process", 409)


class Answers(Connection):
    """Gives these answers to appends, one after the other, the last one for ever; ``None`` is no answer."""

    def __init__(self, *answers: dict[str, Any] | None, append_timeout_s: float = 60) -> None:
        super().__init__(BusConfig(append_timeout_s=append_timeout_s))
        self._answers = list(answers)
        self.ids: list[str] = []

    async def request(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Msg:
        await asyncio.sleep(0)
        self.ids.append((headers or {})["Nats-Msg-Id"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise Unanswered("timeout")
        return Msg(Client(), data=orjson.dumps(answer))


async def append_to(connection: Connection, expect: Expect | None = None) -> Appended:
    message = compose(Done(intent="test", generation=1), subject=SUBJECT, source="/test")
    async with asyncio.timeout(120):
        return await append(connection, SUBJECT, message, expect, None)


@pytest.mark.parametrize(
    "first", [None, IN_PROCESS, refused(10077, "no suitable peers", 503)], ids=["silence", "in-process", "no-leader"]
)
async def test_an_open_outcome_is_asked_for_again_with_the_same_id(first: dict[str, Any] | None) -> None:
    connection = Answers(first, first, DUPLICATE)
    assert await append_to(connection) == Appended(7, duplicate=True)
    assert len(connection.ids) == 3
    assert len(set(connection.ids)) == 1


async def test_a_conditional_append_that_is_still_in_process() -> None:
    assert await append_to(Answers(IN_PROCESS, STORED), Expect(AGGREGATE, 3)) == Appended(7, duplicate=False)


async def test_an_outcome_that_stays_open_is_unavailable_and_says_why() -> None:
    with pytest.raises(BusUnavailable) as caught:
        await append_to(Answers(IN_PROCESS, append_timeout_s=0.3))
    assert "10158" in caught.value.details["reason"]


@pytest.mark.parametrize(
    "answer",
    [
        refused(10077, "maximum bytes exceeded", 503),
        refused(10077, "maximum messages exceeded", 503),
        refused(10077, "write /data/1.blk: no space left on device", 503),
        refused(10002, "resource limits exceeded for account"),
        refused(10023, "insufficient resources", 503),
        refused(10047, "insufficient storage resources available", 500),
    ],
    ids=lambda answer: str(answer["error"]["description"]),
)
async def test_a_full_log_refuses_at_once_and_says_what_to_do(answer: dict[str, Any]) -> None:
    connection = Answers(answer, STORED)
    with pytest.raises(LogFull, match="max_bytes") as caught:
        await append_to(connection)
    assert len(connection.ids) == 1
    assert str(answer["error"]["err_code"]) in caught.value.details["reason"]
    assert ErrorInfo.of(caught.value).code == "log-full"


async def test_a_refusal_is_final() -> None:
    connection = Answers(refused(10060, "expected stream does not match"), STORED)
    with pytest.raises(BusUnavailable, match="refused"):
        await append_to(connection)
    assert len(connection.ids) == 1


async def test_another_expectation_than_the_last_sequence_is_a_conflict() -> None:
    with pytest.raises(Conflict) as caught:
        await append_to(Answers(refused(10071, "wrong last sequence: 2")), Expect(AGGREGATE, 4))
    assert caught.value.details["actual"] == 2
