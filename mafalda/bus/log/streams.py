"""The declarations of the three streams; each connection creates them or updates what differs.

What an operator may have chosen (replicas, age, size) and subjects of a newer version are left as they are.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from mafalda.aio.retry import retrying
from mafalda.bus.config import BusConfig
from mafalda.bus.connection.connection import Connection
from mafalda.bus.connection.jetstream_api import ApiRefused, call
from mafalda.bus.errors import StreamMismatch
from mafalda.contract.subjects import LIVE, LOAD_SUBJECTS, LOG_SUBJECTS, SNAPSHOT_PREFIX
from mafalda.errors import BusUnavailable, PermissionDenied

_log = structlog.get_logger(__name__)

LOG_STREAM = "MAFALDA_LOG"
LOAD_STREAM = "MAFALDA_LOAD"
SNAPSHOT_STREAM = "MAFALDA_SNAPSHOT"

#: Seconds in which the same id is stored once. Longer than any publisher repeats, and NATS' own default.
DUPLICATE_WINDOW_S = 120

#: An oversized message is stored, up to this, so that it can be rejected on its sender's result subject.
MAX_STORED_BYTES = 1024 * 1024

#: A server whose last load report is older than this is gone.
LOAD_MAX_AGE_S = 60

#: Fields that JetStream cannot update.
_FIXED = {"storage", "retention"}


def declared(config: BusConfig) -> tuple[dict[str, Any], ...]:
    """The configurations of all streams, log first. What is ``None`` in ``config`` is left out: it may be anything."""
    log: dict[str, Any] = {
        "name": LOG_STREAM,
        "description": "Everything that happened: intents, commands, results, events.",
        "subjects": list(LOG_SUBJECTS),
        "storage": "file",
        "retention": "limits",
        "discard": "new",  # a full log refuses appends rather than lose entries
        "max_msg_size": MAX_STORED_BYTES,
        "duplicate_window": _ns(DUPLICATE_WINDOW_S),
        "republish": {"src": "mafalda.>", "dest": f"{LIVE}mafalda.>"},
        "allow_direct": True,
        "allow_rollup_hdrs": False,  # else a header of anybody's message could empty the log
    }
    load: dict[str, Any] = {
        "name": LOAD_STREAM,
        "description": "The last load report of each server.",
        "subjects": list(LOAD_SUBJECTS),
        "storage": "memory",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_age": _ns(LOAD_MAX_AGE_S),
        "max_msg_size": MAX_STORED_BYTES,
        "duplicate_window": _ns(LOAD_MAX_AGE_S),
        "allow_direct": True,
        "allow_rollup_hdrs": False,
    }
    snapshot: dict[str, Any] = {
        "name": SNAPSHOT_STREAM,
        "description": "The fleet's state as of some entry of the log.",
        "subjects": [f"{SNAPSHOT_PREFIX}>"],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_msg_size": MAX_STORED_BYTES,
        "duplicate_window": _ns(DUPLICATE_WINDOW_S),
        "allow_direct": True,
        "allow_rollup_hdrs": False,
    }
    if config.replicas is not None:
        for stream in (log, load, snapshot):
            stream["num_replicas"] = config.replicas
    if config.log_max_bytes is not None:
        log["max_bytes"] = config.log_max_bytes
    return log, load, snapshot


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``wanted`` that differ in ``found``, with the value that they should have.

    Subjects are only ever added: those of a newer version stay.
    """
    changed: dict[str, Any] = {}
    for name, value in wanted.items():
        if name == "subjects":
            missing = [subject for subject in value if subject not in found.get("subjects", ())]
            if missing:
                changed["subjects"] = [*found.get("subjects", ()), *missing]
        elif name == "republish":
            if {"src": None, "dest": None, **found.get("republish", {})} != value:
                changed[name] = value
        elif found.get(name, False) != value:  # false flags are left out
            changed[name] = value
    return changed


_STORE_FAILED_CODE = 10049  # error creating store for stream
_CREATE_TIMEOUT_S = 2.0
_AWAIT_INTERVAL_S = 0.2


async def ensure_streams(connection: Connection) -> None:
    """Create or update all streams as declared. Several processes may do this at once.

    Raises:
        StreamMismatch: One exists and cannot be changed so.
        BusUnavailable: JetStream did not answer, or has no room for a stream.
    """
    for wanted in declared(connection.config):
        await _ensure(connection, wanted)


async def _ensure(connection: Connection, wanted: dict[str, Any]) -> None:
    name = wanted["name"]
    found = await _find(connection, name)
    if found is None:
        try:
            await _create(connection, wanted)
            _log.info("stream-created", action="stream_created", stream=name)
            return
        except _StoreFailed as failed:
            raise StreamMismatch("JetStream refused a stream", stream=name, reason=str(failed)) from None
        except PermissionDenied:  # this role makes no streams; NATS forgets one in memory when it restarts
            await _await_stream(connection, name)
            return
        except ApiRefused as refused:
            if refused.err_code != ApiRefused.NAME_IN_USE:
                raise StreamMismatch("JetStream refused a stream", stream=name, reason=str(refused)) from None
        found = await _find(connection, name) or {}  # somebody else was faster
    changed = differences(found, wanted)
    if not changed:
        return
    fields = ", ".join(sorted(changed))
    if fixed := _FIXED & changed.keys():
        raise StreamMismatch(
            "a stream of this name exists and is of another kind",
            stream=name,
            fields=", ".join(sorted(fixed)),
            found=", ".join(f"{field}={found.get(field)}" for field in sorted(fixed)),
        )
    try:
        await call(connection, f"STREAM.UPDATE.{name}", {**found, **changed})
    except ApiRefused as refused:
        raise StreamMismatch("a stream differs", stream=name, fields=fields, reason=str(refused)) from None
    _log.warning("stream-updated", action="stream_updated", stream=name, fields=fields)


class _StoreFailed(Exception):
    """JetStream cannot create the files of a stream at the moment."""


async def _create(connection: Connection, wanted: dict[str, Any]) -> None:
    """Create a stream; again, for a while, if the files of a deleted stream of this name are still there."""
    async for attempt in retrying(
        _StoreFailed, action="stream_create_repeat", give_up_after_s=_CREATE_TIMEOUT_S, stream=wanted["name"]
    ):
        with attempt:
            try:
                await call(connection, f"STREAM.CREATE.{wanted['name']}", wanted)
            except ApiRefused as refused:
                if refused.err_code == _STORE_FAILED_CODE:
                    raise _StoreFailed(str(refused)) from refused
                raise


async def _await_stream(connection: Connection, name: str) -> None:
    """Wait until an agent, an allocator or an operator has made a stream."""
    timeout_s = connection.config.append_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            while await _find(connection, name) is None:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(_AWAIT_INTERVAL_S)
    except TimeoutError:
        raise BusUnavailable("a stream is not there: no agent or allocator runs", stream=name) from None


async def _find(connection: Connection, name: str) -> dict[str, Any] | None:
    try:
        info = await call(connection, f"STREAM.INFO.{name}")
    except ApiRefused as refused:
        if refused.err_code == ApiRefused.NO_STREAM:
            return None
        raise StreamMismatch("JetStream refused to show a stream", stream=name, reason=str(refused)) from None
    found: dict[str, Any] = info["config"]
    return found


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
