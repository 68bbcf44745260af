"""Transports, producers and consumers, made on the worker with the body that the application's library wrote.

They become objects of the peer's session like any other peer's (``mafalda.workers.peers``), so that relays, the log and
the inventory have them. The application gets the worker's own answer in its inbox.
"""

from __future__ import annotations

from collections.abc import Collection

import psutil

from mafalda.contract.messages import intents
from mafalda.contract.messages.channel_calls import ChannelCall
from mafalda.contract.messages.results import ChannelAnswer
from mafalda.errors import InvalidParameters, MalformedMessage
from mafalda.mediasoup import Consumer, DataConsumer, DataProducer, Producer, Transport
from mafalda.mediasoup.codec.channel_json import from_json
from mafalda.mediasoup.router import passthrough
from mafalda.mediasoup.transports.direct_transport import DirectTransport
from mafalda.workers.core.instructions import Entry
from mafalda.workers.passthrough.addresses import map_listen_info, map_options
from mafalda.workers.passthrough.bodies import body_of, channel_answer
from mafalda.workers.passthrough.observers import add_producer
from mafalda.workers.passthrough.peer import PassthroughPeer
from mafalda.workers.peers.intents.consume import find_free_producer, open_consumer, open_data_consumer
from mafalda.workers.peers.intents.producers import open_data_producer, open_producer
from mafalda.workers.peers.intents.relay_demand import consume_when_relayed
from mafalda.workers.peers.intents.transports import open_transport
from mafalda.workers.peers.session.responses import Outcome
from mafalda.workers.relays.target import RelayTarget


def own_addresses() -> Collection[str]:
    """The addresses of all network interfaces of this server."""
    return {address.address for found in psutil.net_if_addrs().values() for address in found}


# --- transports and WebRtcServers -------------------------------------------------------------------


async def create_transport(
    peer: PassthroughPeer, intent: intents.CreateTransport, call: ChannelCall, _: Entry
) -> Outcome:
    """Create a transport of any kind, listening where the application's addresses are on this server."""
    session = peer.session

    async def make() -> tuple[Transport, ChannelAnswer]:
        if call.method not in passthrough.TRANSPORTS:
            raise MalformedMessage("this makes no transport", method=call.method)
        body = body_of(call)
        options = body.get("options")
        if not isinstance(options, dict) or body.get("transportId") != intent.transport:
            raise InvalidParameters("the body is not that of this intent", path="options")
        own, config = own_addresses(), session.services.config
        body["options"] = map_options(options, call.home, own, config)
        if (shared := call.listener) is not None:
            infos = [map_listen_info(info, call.home, own, config) for info in from_json(shared.listen_infos)]
            await peer.webrtc_servers.lease(shared.id, infos, session.live, intent.transport)
            peer.leased[intent.transport] = shared.id
        transport, answer = await passthrough.create_transport(session.router, call.method, body)
        peer.forward_notifications(transport)
        return transport, channel_answer(session, intent, answer, intent.transport)

    outcome = await open_transport(session, intent.transport, make)
    if isinstance(session.objects.transport(intent.transport), DirectTransport):
        await peer.subscribe_notices()
    return outcome


async def create_webrtc_server(peer: PassthroughPeer, call: ChannelCall) -> None:
    """Open a WebRtcServer of the application; the peer stands for it, and it closes with the peer.

    Raises:
        InvalidParameters: The body is not that of a WebRtcServer.
        AlreadyExists: There is one with this id.
        WorkerRequestFailed: A port is in use, or the server has no such address.
    """
    body = body_of(call)
    id, infos = body.get("webRtcServerId"), body.get("listenInfos")
    if not isinstance(id, str) or not isinstance(infos, list):
        raise InvalidParameters("a WebRtcServer needs an id and listen infos")
    own, config = own_addresses(), peer.session.services.config
    mapped = [map_listen_info(info, call.home, own, config) for info in infos]
    await peer.webrtc_servers.open(id, mapped, peer.session.live, owner=peer)
    peer.webrtc_server = id


# --- producers ------------------------------------------------------------------------------------


async def produce(peer: PassthroughPeer, intent: intents.Produce, call: ChannelCall, _: Entry) -> Outcome:
    """Open a producer."""
    transport = peer.session.objects.transport(intent.transport)

    async def make() -> tuple[Producer, ChannelAnswer]:
        producer, answer = await passthrough.produce(transport, {**body_of(call), "producerId": intent.producer})
        peer.forward_notifications(producer)
        return producer, channel_answer(peer.session, intent, answer)

    return await open_producer(peer.session, intent, make)


async def produce_data(peer: PassthroughPeer, intent: intents.ProduceData, call: ChannelCall, _: Entry) -> Outcome:
    """Open a data producer."""
    transport = peer.session.objects.transport(intent.transport)

    async def make() -> tuple[DataProducer, ChannelAnswer]:
        body = {**body_of(call), "dataProducerId": intent.data_producer}
        producer, answer = await passthrough.produce_data(transport, body)
        peer.forward_notifications(producer)
        return producer, channel_answer(peer.session, intent, answer)

    return await open_data_producer(peer.session, intent, make)


# --- consumers ------------------------------------------------------------------------------------


async def consume(peer: PassthroughPeer, intent: intents.Consume, call: ChannelCall, entry: Entry) -> Outcome | None:
    """Open a consumer, or add the producer to an RTP observer; ``None`` while that waits for a relay."""
    session = peer.session

    async def make(relay: RelayTarget | None) -> tuple[Consumer, ChannelAnswer]:
        body = {**body_of(call), "consumerId": intent.consumer, "producerId": intent.producer}
        consumer, answer = await passthrough.consume(session.objects.transport(intent.transport), body)
        if relay is None:
            peer.forward_notifications(consumer)
        else:
            peer.forward_relayed_consumer(consumer, relay.scores)
            answer = {**answer, "score": relay.scores.shown(consumer).to_json_dict()}
        return consumer, channel_answer(session, intent, answer)

    async def open_(relay: RelayTarget | None) -> Outcome:
        if call.method == "RTPOBSERVER_ADD_PRODUCER":
            return await add_producer(peer, intent, relay)
        return await open_consumer(session, intent, relay, make)

    if call.method != "RTPOBSERVER_ADD_PRODUCER":
        session.objects.transport(intent.transport)
    producer = find_free_producer(session, intent.producer, intent.consumer, data=False)
    return await consume_when_relayed(session, entry, producer, intent.consumer, open_)


async def consume_data(
    peer: PassthroughPeer, intent: intents.ConsumeData, call: ChannelCall, entry: Entry
) -> Outcome | None:
    """Open a data consumer; ``None`` while that waits for a relay."""
    session = peer.session

    async def make(_: RelayTarget | None) -> tuple[DataConsumer, ChannelAnswer]:
        body = {**body_of(call), "dataConsumerId": intent.data_consumer, "dataProducerId": intent.data_producer}
        consumer, answer = await passthrough.consume_data(session.objects.transport(intent.transport), body)
        peer.forward_notifications(consumer)
        return consumer, channel_answer(session, intent, answer)

    session.objects.transport(intent.transport)
    producer = find_free_producer(session, intent.data_producer, intent.data_consumer, data=True)
    return await consume_when_relayed(
        session,
        entry,
        producer,
        intent.data_consumer,
        lambda relay: open_data_consumer(session, intent, relay, make),
    )
