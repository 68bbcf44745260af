"""Room events as server-sent events; the id of each is its log sequence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse

from mafalda.auth.tokens import ApplicationToken
from mafalda.bus.protocol import Bus
from mafalda.errors import BadInput, BadToken, BusUnavailable, LogTruncated, MafaldaError, NoCapacity
from mafalda.feed import RoomEvent, Selection, follow_events
from mafalda.http.problems import problem_of

#: Seconds between two comments that show that the connection is alive, and between two checks of its token.
HEARTBEAT_S = 15.0
MAX_STREAMS = 256


class Streams:
    """Opens streams, of which so many may be open at once.

    Args:
        bus: Whose log is read.
        is_revoked: Asked about each stream's token every ``HEARTBEAT_S``.
    """

    def __init__(self, bus: Bus, is_revoked: Callable[[ApplicationToken], Awaitable[bool]]) -> None:
        self._bus = bus
        self._is_revoked = is_revoked
        self._open = 0

    async def respond(self, request: Request, room: str | None, token: ApplicationToken | None) -> StreamingResponse:
        """The response with the events of a room, or of all rooms.

        They begin after ``Last-Event-ID`` or the query's ``after``, else now. It ends when the token expires
        or is revoked.

        Raises:
            IllegalId: The room's id is none.
            UnknownType: There is no such event.
            BadInput: No log sequence to begin after.
            LogTruncated: The log has discarded what would come first.
            NoCapacity: Too many streams are open.
        """
        selection = Selection(room, tuple(request.query_params.getlist("event")))
        selection.patterns()
        given = request.headers.get("last-event-id") or request.query_params.get("after")
        if given is not None and not (given.isascii() and given.isdecimal() and len(given) < 16):
            raise BadInput("not a log sequence", after=given[:80])
        after_seq = await self._bus.last_seq() if given is None else int(given)
        first_seq = (await self._bus.log_usage()).first_seq
        if given is not None and 0 < after_seq < first_seq - 1:
            raise LogTruncated("the log does not reach back so far", after_seq=after_seq, first_seq=first_seq)
        if self._open >= MAX_STREAMS:
            raise NoCapacity("too many streams are open", limit=MAX_STREAMS)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy passes each event on at once
        return StreamingResponse(
            self._stream(selection, after_seq, token), headers=headers, media_type="text/event-stream"
        )

    async def _stream(
        self, selection: Selection, after_seq: int, token: ApplicationToken | None
    ) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            async with follow_events(self._bus, selection, after_seq=after_seq) as events:
                yield b": open\n\n"
                next_event = asyncio.ensure_future(anext(events))
                event_loop = asyncio.get_running_loop()
                check_at = event_loop.time() + HEARTBEAT_S
                try:
                    while token is None or time.time() < token.expires:
                        await asyncio.wait((next_event,), timeout=max(0.0, check_at - event_loop.time()))
                        if event_loop.time() >= check_at:
                            await self._check(token)
                            check_at = event_loop.time() + HEARTBEAT_S
                            yield b": alive\n\n"
                        if next_event.done():
                            yield _event(next_event.result())
                            next_event = asyncio.ensure_future(anext(events))
                finally:
                    next_event.cancel()
                    await asyncio.wait((next_event,))
        except MafaldaError as error:
            yield b"event: error\ndata: " + orjson.dumps(problem_of(error).to_json_dict()) + b"\n\n"
        finally:
            self._open -= 1

    async def _check(self, token: ApplicationToken | None) -> None:
        """Check a token again; while NATS is away no event comes either.

        Raises:
            BadToken: It is revoked.
        """
        with suppress(BusUnavailable):
            if token is not None and await self._is_revoked(token):
                raise BadToken("the token is revoked")


def _event(event: RoomEvent) -> bytes:
    data = orjson.dumps({"seq": event.seq, "room": event.room, "event": orjson.Fragment(event.data)})
    return f"id: {event.seq}\nevent: {event.message.data.action}\ndata: ".encode() + data + b"\n\n"
