"""Fold the log into a state, one message at a time. Pure and total: no message makes it raise, in whatever order.

The same log gives the same state, byte for byte. A message that contradicts earlier ones (an older generation, an id in
use, a consumer whose producer is not there) or its own subject changes nothing. So after every entry:

- the producer of each consumer can be consumed on the consumer's worker;
- both workers of each relay live;
- the indexes of a worker's peers and relays, and of a producer's consumers and relays, are complete.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mafalda.contract.batches import read_result
from mafalda.contract.channels import fits
from mafalda.contract.messages import commands, events, results
from mafalda.contract.messages.payload import Payload
from mafalda.contract.subjects import Address
from mafalda.errors import BadInput
from mafalda.projection import endpoints, peers, relays, servers, subscriptions
from mafalda.projection.state import State

#: The function that applies each kind of message; other messages change nothing.
_RULES: dict[type[Payload], Callable[[State, Address, Any], None]] = {
    events.ServerStarted: servers.server_started,
    events.ServerStopped: servers.server_ended,
    events.ServerLost: servers.server_ended,
    events.ServerDraining: servers.server_draining,
    events.WorkerStarted: servers.worker_started,
    events.WorkerDied: servers.worker_died,
    commands.PlacePeer: peers.place_peer,
    events.PeerJoined: peers.peer_joined,
    events.PeerMoved: peers.peer_joined,
    events.PeerLeft: peers.peer_left,
    events.PeerDemoted: peers.peer_demoted,
    events.PeerUpdated: peers.peer_updated,
    results.TransportResult: endpoints.transport_opened,
    results.ChannelAnswer: endpoints.channel_answered,
    events.TransportClosed: endpoints.transport_closed,
    events.ProducerOpened: endpoints.producer_opened,
    events.ProducerPaused: endpoints.producer_paused,
    events.ProducerResumed: endpoints.producer_paused,
    events.ProducerClosed: endpoints.producer_closed,
    events.DataProducerOpened: endpoints.producer_opened,
    events.DataProducerClosed: endpoints.producer_closed,
    results.ConsumeResult: endpoints.consumer_opened,
    results.ConsumeDataResult: endpoints.consumer_opened,
    events.ConsumerClosed: endpoints.consumer_closed,
    events.DataConsumerClosed: endpoints.consumer_closed,
    results.Done: endpoints.intent_done,
    results.SubscribeResult: subscriptions.subscribed,
    events.ConsumersOpened: subscriptions.consumers_opened,
    events.ConsumersClosed: subscriptions.consumers_closed,
    results.ResultBatch: lambda state, address, batch: _apply_batch(state, address, batch),
    commands.OpenRelay: relays.open_relay,
    commands.OpenRelays: relays.open_relays,
    events.RelayOpened: relays.relay_opened,
    events.RelayClosed: relays.relay_ended,
    events.RelayFailed: relays.relay_ended,
}


def fold(state: State, seq: int, address: Address, payload: Payload | None) -> None:
    """Apply one stored message, in log order.

    Args:
        state: Changed in place.
        seq: The message's sequence in the log; one that is not above ``state.seq`` is ignored.
        address: Its parsed subject.
        payload: Its data; ``None`` if the message is unreadable, which changes the sequence only.
    """
    if seq <= state.seq:
        return
    state.seq = seq
    apply(state, seq, address, payload)


def apply(state: State, seq: int, address: Address, payload: Payload | None) -> None:
    """Apply one message whatever ``state.seq`` is, for readers that follow rooms and servers at different paces."""
    if payload is None:
        return
    rule = _RULES.get(type(payload))
    if rule and fits(address, payload):
        rule(state, address, payload)


def _apply_batch(state: State, address: Address, batch: results.ResultBatch) -> None:
    """Apply each result of a batch; one that cannot be read changes nothing."""
    for item in batch.items:
        with suppress(BadInput):
            apply(state, state.seq, address._replace(action=item.intent), read_result(item))
