"""Calls of the worker's channel that have no intent of their own, and who may make them how.

A call that changes something is an intent (``RequestChannel``), with three exceptions that must not be stored: key
material and an application's messages. Those are requests outside the log, done in the order of the peer's intents.
"""

from __future__ import annotations

from typing import Any

from mafalda.contract.messages import intents
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.errors import MalformedMessage, NotFound
from mafalda.mediasoup import Consumer
from mafalda.mediasoup.router import passthrough
from mafalda.workers.core.instructions import Entry
from mafalda.workers.passthrough.bodies import body_of, channel_answer, with_public_ids
from mafalda.workers.passthrough.creation import create_webrtc_server
from mafalda.workers.passthrough.observers import create_observer
from mafalda.workers.passthrough.peer import PassthroughPeer
from mafalda.workers.peers.intents.relay_demand import update_demand
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.peers.session.session import PeerSession

#: Methods that change an object of the peer.
WRITES = frozenset(
    {
        "TRANSPORT_CONNECT",
        "TRANSPORT_SET_MAX_INCOMING_BITRATE",
        "TRANSPORT_SET_MAX_OUTGOING_BITRATE",
        "TRANSPORT_SET_MIN_OUTGOING_BITRATE",
        "TRANSPORT_RESTART_ICE",
        "TRANSPORT_ENABLE_TRACE_EVENT",
        "PLAINTRANSPORT_CONNECT",
        "PIPETRANSPORT_CONNECT",
        "WEBRTCTRANSPORT_CONNECT",
        "PRODUCER_ENABLE_TRACE_EVENT",
        "CONSUMER_SET_PREFERRED_LAYERS",
        "CONSUMER_SET_PRIORITY",
        "CONSUMER_REQUEST_KEY_FRAME",
        "CONSUMER_ENABLE_TRACE_EVENT",
        "DATACONSUMER_PAUSE",
        "DATACONSUMER_RESUME",
        "DATACONSUMER_SET_BUFFERED_AMOUNT_LOW_THRESHOLD",
        "DATACONSUMER_SEND",
        "DATACONSUMER_SET_SUBCHANNELS",
        "DATACONSUMER_ADD_SUBCHANNEL",
        "DATACONSUMER_REMOVE_SUBCHANNEL",
        "RTPOBSERVER_PAUSE",
        "RTPOBSERVER_RESUME",
    }
)
#: Those of them whose bodies may hold SRTP keys, or hold an application's message: allowed as requests too.
PRIVATE_WRITES = frozenset({"PLAINTRANSPORT_CONNECT", "PIPETRANSPORT_CONNECT", "DATACONSUMER_SEND"})
#: Methods that change nothing.
READS = frozenset(
    {
        "TRANSPORT_DUMP",
        "TRANSPORT_GET_STATS",
        "PRODUCER_DUMP",
        "PRODUCER_GET_STATS",
        "CONSUMER_DUMP",
        "CONSUMER_GET_STATS",
        "DATAPRODUCER_DUMP",
        "DATAPRODUCER_GET_STATS",
        "DATACONSUMER_DUMP",
        "DATACONSUMER_GET_STATS",
        "DATACONSUMER_GET_BUFFERED_AMOUNT",
    }
)


async def request_channel(
    peer: PassthroughPeer, intent: intents.RequestChannel, call: ChannelCall, _: Entry
) -> Outcome:
    """Do a call that has no intent of its own."""
    full = channel_answer(peer.session, intent, await _call(peer, call))
    return Outcome(full.without_secrets(), private=full)


async def _call(peer: PassthroughPeer, call: ChannelCall) -> dict[str, Any]:
    if call.method in passthrough.OBSERVERS:
        return await create_observer(peer, call)
    if call.method == "WORKER_CREATE_WEBRTCSERVER":
        await create_webrtc_server(peer, call)
        return {}
    if call.method not in WRITES:
        raise MalformedMessage("not to be requested this way", method=call.method)
    answer = await request_object(peer.session, call)
    if call.method == "CONSUMER_SET_PREFERRED_LAYERS":
        _count_layers(peer.session, call.handler, answer)
    return answer


def _count_layers(session: PeerSession, id: str, answer: dict[str, Any]) -> None:
    """Let the producer's client send the layers that a consumer has just chosen."""
    found = session.objects.consumers.get(id)
    if found is not None and isinstance(found.consumer, Consumer):
        found.consumer.accept_preferred_layers(answer)
        update_demand(session, id, paused=found.is_paused or found.is_muted)


async def request_object(session: PeerSession, call: ChannelCall) -> dict[str, Any]:
    """Request something of one of the peer's objects; returns the worker's answer.

    Raises:
        NotFound: The peer has no such object.
        MafaldaError: The worker's error.
    """
    entity = session.objects.find(call.handler)
    if entity is None:
        raise NotFound(f"Channel request handler with ID {call.handler} not found [method:{call.method}]")
    answer = await session.live.worker.request(call.method, entity.channel_id, body_of(call))
    return with_public_ids(session, answer)
