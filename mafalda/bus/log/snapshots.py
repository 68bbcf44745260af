"""The snapshot stream: the last version of each named object, kept beside the log, not in it.

An object is one message on a subject of its own, so it must fit into one. A write may expect the version that it
replaces; a write that is repeated because its acknowledgement was lost is recognised by its message id.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode
from datetime import datetime

from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call, parse_answer, parse_headers
from mafalda.bus.connection.pending_requests import Unanswered
from mafalda.bus.log.streams import LOG_STREAM, SNAPSHOT_STREAM
from mafalda.bus.protocol import MESSAGE_ID, SnapshotObject
from mafalda.contract.subjects import SNAPSHOT_PREFIX
from mafalda.errors import BusUnavailable, Conflict, NotFound

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_CODES = (10071, 10164)
_RETRY_WAIT_S = 0.1


class NatsSnapshots:
    """See ``protocol.Snapshots``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, name: str, data: bytes, *, last_version: int | None = None) -> int:
        """See ``protocol.Snapshots``."""
        config = self._connection.config
        headers = {MESSAGE_ID: secrets.token_hex(12)}
        if last_version is not None:
            headers[_EXPECTED] = str(last_version)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + config.append_timeout_s
        reason = "timeout"
        while (left := deadline - loop.time()) > 0:
            try:
                answer = await self._connection.request(
                    SNAPSHOT_PREFIX + name, data, headers=headers, timeout_s=min(left, config.api_timeout_s)
                )
                return int(parse_answer(answer.data)["seq"])
            except Unanswered as unanswered:
                reason = unanswered.reason
            except ApiRefused as refused:
                if refused.err_code in _WRONG_LAST_CODES:
                    return await self._own_version(name, headers[MESSAGE_ID], last_version)
                reason = str(refused)
            await asyncio.sleep(min(_RETRY_WAIT_S, max(left, 0)))
        raise BusUnavailable("a snapshot was not stored", name=name, reason=reason)

    async def _own_version(self, name: str, message_id: str, expected: int | None) -> int:
        """The version of a write that was stored although its acknowledgement was lost."""
        found = await self._get(name)
        if found and found[1] == message_id:
            return found[0].version
        raise Conflict("another writer was first", name=name, expected=expected, actual=found and found[0].version)

    async def get(self, name: str) -> SnapshotObject | None:
        """See ``protocol.Snapshots``."""
        found = await self._get(name)
        return found[0] if found else None

    async def _get(self, name: str) -> tuple[SnapshotObject, str | None] | None:
        try:
            query = {"last_by_subj": SNAPSHOT_PREFIX + name}
            message = (await call(self._connection, f"STREAM.MSG.GET.{SNAPSHOT_STREAM}", query))["message"]
        except ApiRefused as refused:
            if refused.err_code in (ApiRefused.NO_MESSAGE, ApiRefused.NO_STREAM):
                return None
            raise BusUnavailable("a snapshot cannot be read", name=name, reason=str(refused)) from None
        found = SnapshotObject(name, b64decode(message.get("data", "")), int(message["seq"]))
        return found, parse_headers(message.get("hdrs")).get(MESSAGE_ID)

    async def names(self) -> list[str]:
        """See ``protocol.Snapshots``."""
        try:
            info = await call(
                self._connection, f"STREAM.INFO.{SNAPSHOT_STREAM}", {"subjects_filter": f"{SNAPSHOT_PREFIX}>"}
            )
        except ApiRefused as refused:
            if refused.err_code == ApiRefused.NO_STREAM:
                return []
            raise BusUnavailable("snapshots cannot be listed", reason=str(refused)) from None
        return sorted(subject.removeprefix(SNAPSHOT_PREFIX) for subject in info["state"].get("subjects") or {})

    async def delete(self, name: str) -> None:
        """See ``protocol.Snapshots``."""
        try:
            await call(self._connection, f"STREAM.PURGE.{SNAPSHOT_STREAM}", {"filter": SNAPSHOT_PREFIX + name})
        except ApiRefused as refused:
            raise BusUnavailable("a snapshot cannot be deleted", name=name, reason=str(refused)) from None


async def purge_log(connection: Connection, *, before_seq: int) -> None:
    """Discard all log entries before a sequence."""
    try:
        await call(connection, f"STREAM.PURGE.{LOG_STREAM}", {"seq": before_seq})
    except ApiRefused as refused:
        raise BusUnavailable("the log cannot be purged", reason=str(refused)) from None


async def stored_at(connection: Connection, seq: int) -> datetime:
    """When the first entry at or after a sequence was stored, by NATS' clock.

    Raises:
        NotFound: There is none.
    """
    try:
        found = await call(connection, f"STREAM.MSG.GET.{LOG_STREAM}", {"seq": max(seq, 1), "next_by_subj": ">"})
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_MESSAGE:
            raise NotFound("the log has no entry there", seq=seq) from None
        raise BusUnavailable("the log cannot be read", reason=str(refused)) from None
    return datetime.fromisoformat(found["message"]["time"][:26].rstrip("Z") + "+00:00")
