"""The operations of the API: a table of paths, with what each takes and answers, and what it does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mafalda.auth.tokens import ApplicationToken, TokenKeys
from mafalda.contract.grants import ChangeRequest, GrantChange, Grants, Revocation
from mafalda.contract.ids import check_id
from mafalda.contract.messages import intents
from mafalda.contract.participant_token import read_participant_token
from mafalda.contract.permissions import GRANT_REQUEST, REVOKE_REQUEST
from mafalda.errors import BadInput, UnsupportedError
from mafalda.http.access import check_fleet, check_room
from mafalda.http.control import Control
from mafalda.http.models import (
    AppDataBody,
    Body,
    Done,
    Ended,
    MuteBody,
    ProducersDone,
    RoomList,
    RoomView,
    TokenAnswer,
    TokenBody,
)
from mafalda.http.problems import parse_body
from mafalda.http.rooms import MAX_ROOMS, producers_of, room_list, room_view
from mafalda.http.streams import Streams
from mafalda.media.model import Model

#: The peer id under which the API ends rooms; nobody has to be in a room to do so.
SENDER = "http"
_MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Services:
    """What operations use. ``keys``: mint tokens; ``None``: the fleet is open."""

    control: Control
    streams: Streams
    keys: TokenKeys | None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, whose token was checked for the room in its path."""

    services: Services
    request: Request
    body: Any
    token: ApplicationToken | None
    key: str | None

    @property
    def control(self) -> Control:
        return self.services.control

    @property
    def room(self) -> str:
        return check_id("room", self.request.path_params["room"])

    @property
    def peer(self) -> str:
        return check_id("peer", self.request.path_params["peer"])


Handler = Callable[[Call], Awaitable[Model | Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path.

    Args:
        method: GET, POST or PUT.
        path: With its parameters in braces.
        id: Unique; a client's generator makes a function's name of it.
        about: A sentence.
        handler: Does it.
        body: What it takes; ``None``: nothing.
        answer: What it answers; ``None``: server-sent events.
        status: When it succeeds.
        query: Its parameters in the query, with what they are.
    """

    method: str
    path: str
    id: str
    about: str
    handler: Handler
    body: type[Model] | None = None
    answer: type[Model] | None = None
    status: int = HTTPStatus.OK
    query: tuple[tuple[str, str], ...] = ()


def idempotency_key(request: Request) -> str | None:
    """The key under which a repetition gets the outcome of the first request.

    Raises:
        BadInput: It is too long, or empty.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _MAX_KEY:
        raise BadInput("an Idempotency-Key has 1 to 255 characters")
    return key


def body_of(operation: Operation, raw: bytes) -> Model | None:
    """The body of a request.

    Raises:
        BadInput: It is not as the operation's.
    """
    if operation.body is None:
        parse_body(Body, raw)
        return None
    return parse_body(operation.body, raw)


# --- reading ------------------------------------------------------------------------------------------


async def _list_rooms(call: Call) -> RoomList:
    params = call.request.query_params
    limit = params.get("limit", "100")
    if not (limit.isascii() and limit.isdecimal() and 0 < int(limit[:9]) <= MAX_ROOMS):
        raise BadInput(f"limit is a number from 1 to {MAX_ROOMS}", limit=limit[:80])
    only = call.token.grants.rooms if call.token else None
    return room_list(await call.control.fresh_state(), only, after=params.get("after", ""), limit=int(limit))


async def _show_room(call: Call) -> RoomView:
    return room_view(await call.control.fresh_state(), call.room)


async def _watch_room(call: Call) -> Response:
    return await call.services.streams.respond(call.request, call.room, call.token)


async def _watch_fleet(call: Call) -> Response:
    check_fleet(call.token)
    return await call.services.streams.respond(call.request, None, call.token)


# --- rooms and peers ----------------------------------------------------------------------------------


async def _end_room(call: Call) -> Done:
    await call.control.request(call.room, SENDER, intents.EndRoom(), call.key)
    return Done()


async def _remove(call: Call) -> Done:
    await call.control.request(call.room, call.peer, intents.Leave(cause="removed"), call.key)
    return Done()


async def _mute(call: Call) -> ProducersDone:
    chosen = await _chosen(call)
    wanted = [intents.PauseProducer(producer=producer) for producer in chosen]
    await call.control.request_all(call.room, call.peer, wanted, call.key)
    return ProducersDone(producers=chosen)


async def _unmute(call: Call) -> ProducersDone:
    chosen = await _chosen(call)
    wanted = [intents.ResumeProducer(producer=producer) for producer in chosen]
    await call.control.request_all(call.room, call.peer, wanted, call.key)
    return ProducersDone(producers=chosen)


async def _chosen(call: Call) -> list[str]:
    body: MuteBody = call.body
    found = producers_of(await call.control.fresh_state(), call.room, call.peer)
    return body.producers if body.producers is not None else [it.producer for it in found if it.kind in body.kinds]


async def _promote(call: Call) -> Done:
    await call.control.request(call.room, call.peer, intents.SetAudience(audience=False), call.key)
    return Done()


async def _demote(call: Call) -> Done:
    await call.control.request(call.room, call.peer, intents.SetAudience(audience=True), call.key)
    return Done()


async def _set_app_data(call: Call) -> Done:
    body: AppDataBody = call.body
    await call.control.request(call.room, call.peer, intents.SetAppData(app_data=body.app_data), call.key)
    return Done()


# --- tokens -------------------------------------------------------------------------------------------


async def _change_grants(call: Call) -> Ended:
    return await call.control.ask_auth(GRANT_REQUEST, ChangeRequest(room=call.room, peer=call.peer, grants=call.body))


async def _revoke_peer(call: Call) -> Ended:
    return await call.control.ask_auth(REVOKE_REQUEST, Revocation(room=call.room, peer=call.peer))


async def _revoke_room(call: Call) -> Ended:
    return await call.control.ask_auth(REVOKE_REQUEST, Revocation(room=call.room))


async def _revoke_token(call: Call) -> Ended:
    check_fleet(call.token)
    token_id = call.request.path_params["token"]
    if len(token_id) != 32 or not set(token_id) <= set("0123456789abcdef"):
        raise BadInput("not the id of a token", token=token_id[:80])
    return await call.control.ask_auth(REVOKE_REQUEST, Revocation(token_id=token_id))


async def _mint(call: Call) -> TokenAnswer:
    body: TokenBody = call.body
    check_room(call.token, *body.rooms)
    if call.services.keys is None:
        raise UnsupportedError("this service has no keys of tokens: the fleet is open")
    now = int(time.time())
    grants = Grants.model_validate({name: getattr(body, name) for name in Grants.model_fields})
    text = call.services.keys.mint(grants, life_s=body.life_s, now=now)
    token = read_participant_token(text)
    assert token is not None
    return TokenAnswer(token=text, token_id=token.id, expires=now + body.life_s)


_PEER = "/rooms/{room}/peers/{peer}"
_EVENTS = (
    ("event", "Only these events, such as peer-joined; repeatable."),
    ("after", "Begin after this log sequence; the header Last-Event-ID, which browsers send, comes first."),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET",
        "/rooms",
        "listRooms",
        "The rooms with a peer, by id.",
        _list_rooms,
        answer=RoomList,
        query=(("after", "Begin after this room's id."), ("limit", f"At most so many, up to {MAX_ROOMS}; 100.")),
    ),
    Operation(
        "GET", "/rooms/{room}", "showRoom", "Who is in a room, where, and what is sent.", _show_room, None, RoomView
    ),
    Operation(
        "GET", "/rooms/{room}/events", "watchRoom", "A room's events as they happen.", _watch_room, query=_EVENTS
    ),
    Operation("GET", "/events", "watchFleet", "All rooms' events as they happen.", _watch_fleet, query=_EVENTS),
    Operation(
        "POST",
        "/rooms/{room}/end",
        "endRoom",
        "Let every peer leave that has joined. The room is open to later joins.",
        _end_room,
        answer=Done,
    ),
    Operation(
        "POST",
        "/rooms/{room}/revoke",
        "revokeRoom",
        "Refuse all tokens for a room that were issued until now, end their connections, and remove their peers.",
        _revoke_room,
        answer=Ended,
    ),
    Operation("POST", f"{_PEER}/remove", "removePeer", "Let a peer leave. It may join again.", _remove, answer=Done),
    Operation("POST", f"{_PEER}/mute", "mutePeer", "Pause producers of a peer.", _mute, MuteBody, ProducersDone),
    Operation("POST", f"{_PEER}/unmute", "unmutePeer", "Resume producers of a peer.", _unmute, MuteBody, ProducersDone),
    Operation("POST", f"{_PEER}/promote", "promotePeer", "Let a peer of the audience send.", _promote, answer=Done),
    Operation(
        "POST",
        f"{_PEER}/demote",
        "demotePeer",
        "Make a peer one of the audience: it only receives.",
        _demote,
        answer=Done,
    ),
    Operation(
        "POST",
        f"{_PEER}/revoke",
        "revokePeer",
        "Refuse all tokens for a peer of a room that were issued until now, end their connections, and remove it.",
        _revoke_peer,
        answer=Ended,
    ),
    Operation(
        "PUT",
        f"{_PEER}/grants",
        "changeGrants",
        "Change what a peer may do, at once: tokens issued until now grant this instead. What is absent is as there.",
        _change_grants,
        GrantChange,
        Ended,
    ),
    Operation(
        "PUT", f"{_PEER}/app-data", "setAppData", "Replace a peer's application data.", _set_app_data, AppDataBody, Done
    ),
    Operation(
        "POST", "/tokens", "mintToken", "A participant's token.", _mint, TokenBody, TokenAnswer, HTTPStatus.CREATED
    ),
    Operation(
        "POST",
        "/tokens/{token}/revoke",
        "revokeToken",
        "Refuse a token from now on, end its connections, and remove its peer.",
        _revoke_token,
        answer=Ended,
    ),
)
