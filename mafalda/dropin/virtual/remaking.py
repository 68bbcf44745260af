"""Transports that are made again when their worker dies, with everything on them, under the same ids.

A WebRtcTransport cannot be: its client has an ICE and a DTLS session with the worker that is gone. Neither can any
other transport with SRTP, whose key the worker chose, nor a plain one with SCTP. What is left are direct transports,
and plain and pipe ones without SRTP: they get the port that they had, if they are on the same server and it is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import structlog

from mafalda.contract.messages.intents import Consume, ConsumeData, CreateTransport, Intent, RequestChannel
from mafalda.dropin.fleet.answers import PLACE_GONE, LibraryAnswer, Refusal, ignore
from mafalda.dropin.fleet.channel_answers import make_call
from mafalda.dropin.fleet.object_session import REOPEN_TIMEOUT_S, ObjectSession
from mafalda.dropin.virtual.objects import Node, Objects
from mafalda.errors import AlreadyExists, MafaldaError, NotFound, WorkerExited
from mafalda.mediasoup.codec.channel_json import from_json, to_json

#: Between two tries to consume a producer that is being made again as well, in seconds.
CONSUME_PAUSE_S = 0.3
#: A producer's end may be known before its worker's death is, by no more than this, in seconds.
DEATH_KNOWN_WITHIN_S = 2.0
_PAUSES = frozenset(
    f"{it}_{done}" for it in ("PRODUCER", "CONSUMER", "DATAPRODUCER", "DATACONSUMER") for done in ("PAUSE", "RESUME")
)
_SUBCHANNELS = frozenset(f"DATACONSUMER_{it}" for it in ("SET_SUBCHANNELS", "ADD_SUBCHANNEL", "REMOVE_SUBCHANNEL"))
#: Requests whose effect lasts; the last of each counts.
_LASTING = frozenset(
    {
        "PLAINTRANSPORT_CONNECT",
        "PIPETRANSPORT_CONNECT",
        "TRANSPORT_SET_MAX_INCOMING_BITRATE",
        "TRANSPORT_SET_MAX_OUTGOING_BITRATE",
        "TRANSPORT_SET_MIN_OUTGOING_BITRATE",
        "TRANSPORT_ENABLE_TRACE_EVENT",
        "PRODUCER_ENABLE_TRACE_EVENT",
        "CONSUMER_SET_PREFERRED_LAYERS",
        "CONSUMER_SET_PRIORITY",
        "CONSUMER_ENABLE_TRACE_EVENT",
        "DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD",
    }
)
#: The end of a consumer that cannot be made again, by its kind.
ENDS = {"consumer": "CONSUMER_PRODUCER_CLOSE", "dataconsumer": "DATACONSUMER_DATAPRODUCER_CLOSE"}
_log = structlog.get_logger("mafalda.dropin")
Notify = Callable[[str, str, dict[str, Any] | None], None]
_Address = tuple[Any, ...]


class _Made(NamedTuple):
    """Where a transport was made, and the worker's answer, which has its addresses."""

    server: str | None
    answer: dict[str, Any]


def can_be_remade(kind: str, options: Mapping[str, Any]) -> bool:
    """Whether a transport can be made again without its application or the other end noticing.

    Args:
        kind: As the schema calls it.
        options: Of the request that makes it.
    """
    match kind:
        case "DirectTransport":
            return True
        case "PlainTransport":
            return not options.get("enableSrtp") and not options.get("base", {}).get("enableSctp")
        case "PipeTransport":
            return not options.get("enableSrtp")
    return False


def on_former_ports(intent: CreateTransport, made: Mapping[str, Any]) -> CreateTransport | None:
    """The intent that makes a transport on the ports that it had; ``None`` if it had none.

    Args:
        intent: As it was requested first.
        made: The worker's answer to it.
    """
    port, rtcp_port = ((made.get(key) or {}).get("localPort") for key in ("tuple", "rtcpTuple"))
    if not port or intent.channel is None:
        return None
    body = from_json(intent.channel.body or {})
    options = dict(body["options"])
    any_range = {"min": 0, "max": 0}  # a range would be preferred to the port
    rtcp = options.get("rtcpListenInfo") or options["listenInfo"]
    options["listenInfo"] = {**options["listenInfo"], "port": port, "portRange": any_range}
    if rtcp_port:
        options["rtcpListenInfo"] = {**rtcp, "port": rtcp_port, "portRange": any_range}
    call = intent.channel.model_copy(update={"body": to_json({**body, "options": options})})
    return intent.model_copy(update={"channel": call})


def _address(made: Mapping[str, Any]) -> _Address:
    found = [made.get(key) or {} for key in ("tuple", "rtcpTuple")]
    return tuple(it.get(name) for it in found for name in ("localAddress", "localPort"))


class Remaking:
    """Makes transports again, and consumers of what they produced.

    Args:
        objects: All of the application's.
        notify: Tells the library of something that has happened to an object.
        end: Removes a consumer that cannot be made again, and tells the library by an event.
        sessions_in: All sessions of a room.
    """

    def __init__(
        self,
        objects: Objects,
        notify: Notify,
        end: Callable[[Node, str], None],
        sessions_in: Callable[[str], list[ObjectSession]],
    ) -> None:
        self._objects = objects
        self._notify = notify
        self._end = end
        self._sessions_in = sessions_in
        #: Called with a session whose transport could not be made again: it has ended with its worker.
        self.on_failed: Callable[[ObjectSession, str], None] = lambda session, reason: None
        self._made: dict[Node, _Made] = {}

    # --- what there is ----------------------------------------------------------------------------------

    def keep(self, node: Node, session: ObjectSession, intent: CreateTransport, made: dict[str, Any]) -> None:
        """A transport is made, which can be made again."""
        self._made[node] = _Made(session.place.server if session.place else None, made)
        hold(session, node.id, "made", intent)
        session.remake = lambda: self._remake(node, session)

    def forget(self, node: Node) -> None:
        """An object is removed."""
        self._made.pop(node, None)
        if node.session is not None:
            release(node.session, node.id)

    # --- a transport again ------------------------------------------------------------------------------

    async def _remake(self, node: Node, session: ObjectSession) -> None:
        groups = _groups(session)
        create, *settings = groups.pop(node.id)
        assert isinstance(create, CreateTransport)
        former = _address(self._made[node].answer)
        try:
            refusal = await self._create(node, session, create)
        except WorkerExited:  # the next place makes it again
            _log.info("lost again", action="remade_lost_again", peer_id=session.peer)
            return
        if refusal is not None:
            if not session.is_ending:
                self._fail(session, refusal)
            return
        for intent in settings:
            _note(await session.request_now(intent), intent)
        consumers = {id for id, (made, *_) in groups.items() if isinstance(made, Consume | ConsumeData)}
        await asyncio.gather(
            *(self._request_all(session, group) for id, group in groups.items() if id not in consumers)
        )
        for other in self._sessions_in(session.room):
            _observe_again(other, node)
        await asyncio.gather(*(self._consume(session, id, groups[id]) for id in consumers))
        await self._report_address(node, session, former)

    async def _create(self, node: Node, session: ObjectSession, create: CreateTransport) -> str | None:
        """Make the transport, on its former ports if possible; the reason if it is not there again.

        Raises:
            WorkerExited: The worker of this place is gone too.
        """
        made = self._made[node]
        here = session.place.server if session.place else None
        on_ports = on_former_ports(create, made.answer) if here == made.server else None
        if node.type == "PipeTransport" and on_ports is None:
            return "it is on another server, and the other end of a pipe cannot be told"
        answer = _of_living(await session.request_now(on_ports or create))
        if _is_refused(answer) and on_ports is not None and not session.is_ending:
            if node.type == "PipeTransport":
                return "its port is in use, and the other end of a pipe cannot be told"
            answer = _of_living(await session.request_now(create))
        if not _is_refused(answer):
            self._made[node] = _Made(here, answer.body or made.answer)
            return None
        return answer.refusal.reason if answer.refusal else ""

    async def _report_address(self, node: Node, session: ObjectSession, former: _Address) -> None:
        """Tell the library if a plain transport has another address: its ``tuple`` event says so."""
        made = self._made[node].answer if node in self._made else {}
        if node.type != "PlainTransport" or _address(made) == former:
            return
        try:
            made = await session.query_now(make_call("TRANSPORT_DUMP", node.id, None))
        except MafaldaError as error:
            _log.info("remote address not known", action="remade_undumped", peer_id=session.peer, reason=str(error))
        for key, event in (("tuple", "PLAINTRANSPORT_TUPLE"), ("rtcpTuple", "PLAINTRANSPORT_RTCP_TUPLE")):
            if made.get(key):
                self._notify(node.id, event, {"tuple": made[key]})

    def _fail(self, session: ObjectSession, reason: str) -> None:
        session.is_reopened = False
        self.on_failed(session, reason)
        session.leave(ignore)

    async def _request_all(self, session: ObjectSession, group: list[Intent]) -> None:
        for intent in group:
            _note(await session.request_now(intent), intent)

    # --- consumers again --------------------------------------------------------------------------------

    async def _consume(self, session: ObjectSession, id: str, group: list[Intent]) -> None:
        """Make a consumer again, when its producer is there; it ends if that is not the case in time."""
        consume, *settings = group
        assert isinstance(consume, Consume | ConsumeData)
        producer = consume.producer if isinstance(consume, Consume) else consume.data_producer
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REOPEN_TIMEOUT_S
        answer = await session.request_now(consume)
        while _is_missing(answer) and self._is_coming(producer) and loop.time() < deadline:
            await asyncio.sleep(CONSUME_PAUSE_S)
            answer = await session.request_now(consume)
        node = self._objects.get(id)
        if node is None or node.session is not session:
            return
        if not _is_refused(answer):
            for intent in settings:
                _note(await session.request_now(intent), intent)
        elif _is_missing(answer) or not session.is_lost:
            self._end(node, ENDS[node.kind])

    def _is_coming(self, producer: str) -> bool:
        """Whether a producer may still be made again."""
        node = self._objects.get(producer)
        session = node.session if node is not None else None
        return session is not None and session.is_reopened and not session.is_ending

    def takes_end(self, consumer: Node) -> bool:
        """A consumer has lost its producer. Make it again if that is made again; whether it is tried."""
        session, producer = consumer.session, self._objects.get(consumer.producer or "")
        if session is None or session.remake is None or producer is None or producer.session is None:
            return False
        origin = producer.session
        group = _groups(session).get(consumer.id)
        if origin.remake is None or not origin.is_reopened or not session.is_reopened or not group:
            return False

        async def consume_again() -> None:
            await origin.wait_lost(DEATH_KNOWN_WITHIN_S)
            await origin.wait_back()
            if session.is_lost:
                return  # it is made again with its transport
            await self._consume(session, consumer.id, group)

        session.submit_job(consume_again)
        return True


# --- what a session holds -------------------------------------------------------------------------------


def hold(session: ObjectSession, id: str, slot: str, intent: Intent) -> None:
    """Request this again at the session's next place, after what is held already; once for each object and slot."""
    key = (id, slot)
    if slot != "made":
        session.held.pop(key, None)
    session.held[key] = intent


def kept_setting(method: str, id: str, intent: Intent, answer: Mapping[str, Any]) -> tuple[str, Intent] | None:
    """The slot and the intent by which a setting of an object is made again; ``None`` if nothing lasts of the request.

    Args:
        method: That the library requested.
        id: Of the object.
        intent: That carried the request.
        answer: The worker's.
    """
    if method in _PAUSES:
        return "paused", intent
    if method in _SUBCHANNELS:
        body = {"subchannels": answer.get("subchannels") or []}
        return "subchannels", RequestChannel(call=make_call("DATACONSUMER_SET_SUBCHANNELS", id, body))
    return (method, intent) if method in _LASTING else None


def release(session: ObjectSession, id: str) -> None:
    """An object is closed: request nothing of it again."""
    for key in [key for key in session.held if isinstance(key, tuple) and key[0] == id]:
        del session.held[key]


def _groups(session: ObjectSession) -> dict[str, list[Intent]]:
    """What a transport's session holds, by the id of the object, the request that made it first."""
    found: dict[str, list[Intent]] = {}
    for (id, _), intent in _keyed(session.held):
        found.setdefault(id, []).append(intent)
    return found


def _keyed(held: Mapping[Hashable, Intent]) -> list[tuple[tuple[str, str], Intent]]:
    return [(key, intent) for key, intent in held.items() if isinstance(key, tuple)]


def _observe_again(session: ObjectSession, transport: Node) -> None:
    """Let an observer observe again what a transport produces."""
    if session.remake is None and session.is_reopened and not session.is_lost:
        for intent in session.held.values():
            if isinstance(intent, Consume) and intent.producer in transport.children:
                session.request(intent, ignore)


def _is_refused(answer: LibraryAnswer) -> bool:
    """Whether something is not there; it is, if it was requested before."""
    return answer.refusal is not None and answer.refusal.code != AlreadyExists.code


def _of_living(answer: LibraryAnswer) -> LibraryAnswer:
    """The answer, if its worker lives."""
    if answer.refusal is not None and answer.refusal.code in PLACE_GONE:
        raise WorkerExited(answer.refusal.reason)
    return answer


def _is_missing(answer: LibraryAnswer) -> bool:
    return isinstance(answer.refusal, Refusal) and answer.refusal.code == NotFound.code


def _note(answer: LibraryAnswer, intent: Intent) -> None:
    if answer.refusal is not None:
        _log.info("not requested again", action="held_refused", intent=intent.action, reason=answer.refusal.reason)
