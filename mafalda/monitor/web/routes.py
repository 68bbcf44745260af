"""The monitor's JSON under ``/api/``: what each path answers. ``docs/monitor.md`` lists them.

Every path of a state takes ``seq``, a log sequence: the answer is then as of that moment, else as of now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mafalda.aio.bounded_queue import BoundedQueue
from mafalda.contract.ids import check_id
from mafalda.contract.messages.commands import Explanation, PlacePeer
from mafalda.errors import BadInput, Broken, MafaldaError, NotFound
from mafalda.monitor.explain import relayed_producers
from mafalda.monitor.records import Record
from mafalda.monitor.sentences import sentence
from mafalda.monitor.web.log_pages import LogFilter, log_page, log_row
from mafalda.monitor.web.past import History, Past
from mafalda.monitor.web.problems import Problems
from mafalda.monitor.web.relay_trees import relay_trees, room_workers
from mafalda.monitor.web.summary import peer_row, peer_rows, room_row, room_rows, server_rows, totals, with_load
from mafalda.monitor.web.watcher import TAIL_ENTRIES, Watcher
from mafalda.projection.state import RoomState, State

Endpoint = Callable[[Any, Request], Awaitable[Any]]

MAX_ROWS = 500
DEFAULT_ROWS = 100
MAX_DECISIONS = 50
#: Peers whose decisions are kept, those that were asked for last.
MAX_DECIDED = 64
#: Objects of one peer that are listed.
MAX_OBJECTS = 200
#: Between two batches of the stream, in seconds, and rows in one.
STREAM_S = 0.25
STREAM_ROWS = 200


def _answers_json(endpoint: Endpoint) -> Callable[[Any, Request], Awaitable[Response]]:
    """Answer with JSON; an error with its code, as HTTP has it."""

    @wraps(endpoint)
    async def answer(self: Any, request: Request) -> Response:
        try:
            return _json(await endpoint(self, request))
        except MafaldaError as error:
            return _json({"error": {"code": error.code, "message": str(error)}}, _status(error))

    return answer


class Api:
    """The fleet as JSON.

    Args:
        watcher: Follows the fleet.
        history: The log, with its archive if there is one.
    """

    def __init__(self, watcher: Watcher, history: History) -> None:
        self._watcher = watcher
        self._history = history
        self._past = Past(history, watcher.checkpoints)
        #: By room and peer: the sequence up to which the log has been read for decisions, and those.
        self._decided: dict[tuple[str, str], tuple[int, list[dict[str, Any]]]] = {}

    def routes(self) -> list[BaseRoute]:
        """All paths."""
        return [
            Route("/api/fleet", self.fleet),
            Route("/api/servers", self.servers),
            Route("/api/rooms", self.rooms),
            Route("/api/rooms/{room}", self.room),
            Route("/api/rooms/{room}/peers", self.peers),
            Route("/api/rooms/{room}/peers/{peer}", self.peer),
            Route("/api/problems", self.problems),
            Route("/api/log", self.log),
            Route("/api/log/stream", self.log_stream),
            Route("/api/log/{seq:int}", self.entry),
            Route("/api/moment", self.moment),
        ]

    @_answers_json
    async def fleet(self, request: Request) -> Any:
        """Totals, and what there is of the log."""
        state, moment = await self._state(request)
        usage = await self._history.bus.log_usage()
        now = datetime.now(UTC)
        first = await self._stored_at(usage.first_seq) if usage.entries else None
        return {
            **totals(state, self._watcher.loads, moment),
            "time": (moment or now).isoformat(),
            "log": {
                "firstSeq": usage.first_seq,
                "lastSeq": usage.last_seq,
                "firstTime": first.isoformat() if first else None,
                "entries": usage.entries,
                "bytes": usage.bytes,
                "limitBytes": usage.limit_bytes,
                "full": usage.is_full,
                "entriesPerS": self._watcher.log_rate(now),
                "behind": max(0, usage.last_seq - self._watcher.state.seq),
            },
        }

    @_answers_json
    async def servers(self, request: Request) -> Any:
        """Servers and their workers, as rows."""
        state, moment = await self._state(request)
        rows = server_rows(state, self._watcher.loads, moment, request.query_params.get("q", ""))
        page = rows[_window(request)]
        return {"total": len(rows), "rows": list(with_load(page, state, self._watcher.loads, moment))}

    @_answers_json
    async def rooms(self, request: Request) -> Any:
        """Rooms, those with most peers first."""
        state, _ = await self._state(request)
        rows = room_rows(state, request.query_params.get("q", ""))
        return {"total": len(rows), "rows": [room_row(room) for room in rows[_window(request)]]}

    @_answers_json
    async def room(self, request: Request) -> Any:
        """One room: its workers, and the trees of its relays."""
        room = await self._room(request)
        return {**room_row(room), "servedBy": room_workers(room), **relay_trees(room)}

    @_answers_json
    async def peers(self, request: Request) -> Any:
        """The peers of a room."""
        room = await self._room(request)
        params = request.query_params
        rows = peer_rows(room, params.get("q", ""), params.get("worker", ""))
        return {"total": len(rows), "rows": [peer_row(peer) for peer in rows[_window(request)]]}

    @_answers_json
    async def peer(self, request: Request) -> Any:
        """One peer: its objects, and each decision that placed it or relayed what it produces, with the reasons."""
        room = await self._room(request)
        key = check_id("peer", request.path_params["peer"])
        decisions = await self._decisions(room.room, key, request)
        peer = room.peers.get(key)
        if peer is None and not decisions:
            raise NotFound("no such peer in this room", room=room.room, peer=key)
        if peer is None:
            return {"peer": key, "status": "left", "decisions": decisions}
        produced = [room.producers[it] for it in sorted(peer.producers) if it in room.producers]
        return {
            **peer_row(peer),
            "producing": [
                {"producer": it.producer, "kind": it.media_kind or "data", "paused": it.paused}
                for it in produced[:MAX_OBJECTS]
            ],
            "consuming": [
                {"consumer": it.consumer, "producer": it.producer, "paused": it.paused}
                for _, it in sorted(peer.consumers.items())[:MAX_OBJECTS]
            ],
            "decisions": decisions,
        }

    @_answers_json
    async def problems(self, request: Request) -> Any:
        """Rejections and failures by cause."""
        seq = await self._seq(request)
        if seq is None:
            since, problems = self._watcher.problems_since_seq, self._watcher.problems
        else:
            since = max(0, seq - TAIL_ENTRIES)
            problems = Problems([entry async for entry in self._read(after_seq=since, up_to_seq=seq)])
        return {"sinceSeq": since, "problems": problems.to_json_list()}

    @_answers_json
    async def log(self, request: Request) -> Any:
        """A page of the log up to ``seq``, or to its end."""
        seq = await self._seq(request)
        end = await self._history.bus.last_seq() if seq is None else seq
        first = await self._history.first_seq()
        return await log_page(
            self._history, _filter(request), up_to_seq=end, first_seq=first, limit=_number(request, "limit", 100)
        )

    @_answers_json
    async def entry(self, request: Request) -> Any:
        """One log entry, whole."""
        seq = request.path_params["seq"]
        async for entry in self._read(after_seq=seq - 1, up_to_seq=seq):
            return {**orjson.loads(entry.to_json_line()), **log_row(entry), "reasons": _explanation(entry)}
        raise NotFound("no such log entry", seq=seq)

    @_answers_json
    async def moment(self, request: Request) -> Any:
        """The last log sequence at a time."""
        raw = request.query_params.get("at", "")
        try:
            at = datetime.fromisoformat(raw)
        except ValueError:
            raise BadInput("not an RFC 3339 time", at=raw) from None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return {"seq": await self._past.seq_at(at), "time": at.isoformat()}

    async def log_stream(self, request: Request) -> Response:
        """New log entries as server-sent events: each has a list of rows, and how many were left out."""
        return StreamingResponse(self._stream(_filter(request)), media_type="text/event-stream")

    async def _stream(self, selected: LogFilter) -> AsyncIterator[bytes]:
        with self._watcher.listening() as queue:
            yield b": listening\n\n"
            while True:
                found, dropped = await _batch(queue)
                rows = [log_row(entry) for entry in found if selected.holds(entry)]
                dropped += max(0, len(rows) - STREAM_ROWS)
                event = orjson.dumps({"rows": rows[-STREAM_ROWS:], "dropped": dropped, "seq": found[-1].seq})
                yield b"data: " + event + b"\n\n"
                await asyncio.sleep(STREAM_S)

    async def _seq(self, request: Request) -> int | None:
        raw = request.query_params.get("seq", "")
        if not raw:
            return None
        if not raw.isdecimal():
            raise BadInput("not a log sequence", seq=raw)
        return int(raw)

    async def _state(self, request: Request) -> tuple[State, datetime | None]:
        """The state, and the time that it is of (``None``: now)."""
        seq = await self._seq(request)
        if seq is None:
            return self._watcher.state, None
        return await self._past.state(seq), await self._stored_at(seq)

    async def _stored_at(self, seq: int) -> datetime:
        try:
            return await self._history.bus.stored_at(max(1, seq))
        except NotFound:  # it is yet to come
            return datetime.now(UTC)

    async def _room(self, request: Request) -> RoomState:
        state, _ = await self._state(request)
        key = check_id("room", request.path_params["room"])
        if (room := state.rooms.get(key)) is None:
            raise NotFound("no such room at this moment", room=key)
        return room

    async def _decisions(self, room: str, peer: str, request: Request) -> list[dict[str, Any]]:
        """Newest first. Of now, only what is new since the last time is read: an open page asks every second."""
        seq = await self._seq(request)
        state = self._watcher.state if seq is None else await self._past.state(seq)
        up_to_seq = state.seq if seq is None else seq
        after_seq, found = self._decided.get((room, peer), (0, [])) if seq is None else (0, [])
        known = state.rooms.get(room)
        produced = set(known.peers[peer].producers) if known and peer in known.peers else set()
        if after_seq < up_to_seq:
            new = [
                {"seq": entry.seq, "time": entry.message.time.isoformat(), "text": sentence(entry), **reasons}
                async for entry in self._history.read(
                    f"mafalda.command.{room}.*.*", after_seq=after_seq, up_to_seq=up_to_seq
                )
                if entry.message is not None
                and _is_about(entry.message.data, peer, produced)
                and (reasons := _explanation(entry)) is not None
            ]
            found = [*new[::-1], *found][:MAX_DECISIONS]
        if seq is None:
            self._decided.pop((room, peer), None)  # to the end, as what was asked for last
            self._decided[room, peer] = (up_to_seq, found)
            while len(self._decided) > MAX_DECIDED:
                del self._decided[next(iter(self._decided))]
        return found

    def _read(self, *, after_seq: int, up_to_seq: int) -> AsyncIterator[Record]:
        return self._history.read(*LogFilter().patterns(), after_seq=after_seq, up_to_seq=up_to_seq)


async def _batch(queue: BoundedQueue[Record]) -> tuple[list[Record], int]:
    """All that waits, at least one entry, and how many were dropped before it."""
    found = [await queue.take()]
    while len(queue):
        found.append(await queue.take())
    dropped, queue.dropped = queue.dropped, 0
    return found, dropped


def _is_about(command: Any, peer: str, producers: set[str]) -> bool:
    if isinstance(command, PlacePeer):
        return command.peer == peer
    return not producers.isdisjoint(relayed_producers(command))


def _explanation(entry: Record) -> dict[str, Any] | None:
    data = entry.message.data if entry.message else None
    explanation: Explanation | None = getattr(data, "explanation", None)
    return explanation.to_json_dict() if explanation else None


def _filter(request: Request) -> LogFilter:
    params = request.query_params
    fields = {name: params.get(name, "") for name in ("room", "peer", "server", "kind", "action", "text")}
    return LogFilter(**fields, problems=params.get("problems") in ("1", "true"), loads=params.get("loads") != "0")


def _window(request: Request) -> slice:
    offset = _number(request, "offset", 0, least=0)
    return slice(offset, offset + min(MAX_ROWS, _number(request, "limit", DEFAULT_ROWS)))


def _number(request: Request, name: str, default: int, *, least: int = 1) -> int:
    raw = request.query_params.get(name, str(default))
    if not raw.isdecimal() or int(raw) < least:
        raise BadInput(f"not a number from {least} on", **{name: raw})
    return int(raw)


def _status(error: MafaldaError) -> int:
    if isinstance(error, NotFound):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, BadInput):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, Broken) else HTTPStatus.INTERNAL_SERVER_ERROR


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
