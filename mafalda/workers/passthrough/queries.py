"""Queries of a peer: reads of the worker's channel, private calls, and ordinary queries."""

from __future__ import annotations

from typing import Any

from mafalda.bus.protocol import Delivery
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.envelope import Message
from mafalda.contract.messages.queries import QueryChannel
from mafalda.contract.reading import read_message
from mafalda.errors import MalformedMessage, NotFound
from mafalda.workers.passthrough.bodies import channel_answer
from mafalda.workers.passthrough.calls import PRIVATE_WRITES, READS, request_object
from mafalda.workers.passthrough.registry import PassthroughPeers
from mafalda.workers.passthrough.visible import visible_router, visible_webrtc_server
from mafalda.workers.peers.queries import answer_query
from mafalda.workers.peers.session.session import PeerSession


async def answer_any_query(peers: PassthroughPeers, session: PeerSession, delivery: Delivery) -> Message:
    """Answer one query of a passthrough peer or of any other.

    Raises:
        MafaldaError: It cannot be answered; the bus replies with the error.
    """
    _, message = read_message(delivery.subject, delivery.data)
    if not isinstance(message.data, QueryChannel):
        return await answer_query(session, delivery)
    body = await _answer(peers, session, message.data.call)
    answer = channel_answer(session, message.data, body)
    return session.services.publisher.reply(answer, delivery.reply or delivery.subject, message)


async def _answer(peers: PassthroughPeers, session: PeerSession, call: ChannelCall) -> dict[str, Any]:
    """The worker's answer to a read, or to a private call, which is done after the peer's intents before it.

    Raises:
        MalformedMessage: Any other call: what changes something is an intent.
    """
    match call.method:
        case "ROUTER_DUMP":
            return visible_router(await session.router.dump(), _own_ids(peers, session))
        case "WEBRTCSERVER_DUMP":
            return await _dump_webrtc_server(peers, session, call.handler)
        case "WORKER_UPDATE_SETTINGS":
            return await peers.follow_log(session, call)
        case "WORKER_GET_RESOURCE_USAGE":
            return await session.live.worker.request(call.method, "", None)
        case method if method in READS:
            return await request_object(session, call)
        case method if method in PRIVATE_WRITES:
            return await session.jobs.run_in_order(lambda: request_object(session, call))
    raise MalformedMessage("a query may only read: publish this call as an intent", method=call.method)


async def _dump_webrtc_server(peers: PassthroughPeers, session: PeerSession, id: str) -> dict[str, Any]:
    """The dump of a WebRtcServer of the session's application.

    Raises:
        NotFound: It has none with this id on this server.
    """
    if not any(id == peer.webrtc_server or id in peer.leased.values() for peer in peers.of_application(session)):
        raise NotFound("no such WebRtcServer", id=id)
    return visible_webrtc_server(await peers.webrtc_servers.dump(id), _own_ids(peers, session))


def _own_ids(peers: PassthroughPeers, session: PeerSession) -> set[str]:
    """The ids of the objects of the session's application; of a peer without one, those of its own objects."""
    sessions = [session, *(peer.session for peer in peers.of_application(session))]
    return {entity.id for each in sessions for entity in each.objects.all()}
